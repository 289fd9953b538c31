// kube-test-server is the API server that the tests of this product run against, and its etcd: the real ones, in
// one binary with two names in it.
//
//	kube-test-server etcd --data-dir D --listen-client-urls URL ...     a flag set of our own, small
//	kube-test-server kube-apiserver --etcd-servers=URL ...              every flag of the real kube-apiserver
//	kube-test-server etcd-compact --endpoints URL                       forget every revision but the newest
//	kube-test-server version
//
// They are two processes, so that a test can kill the API server alone and find its objects again afterwards. With
// KUBE_TEST_SERVER_ENDS_WITH_STDIN set, either ends when its standard input does: a test that is killed holds the other
// end of that pipe, and leaves nothing behind.
package main

import (
	"fmt"
	"io"
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/component-base/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if os.Getenv("KUBE_TEST_SERVER_ENDS_WITH_STDIN") != "" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	}
	word := ""
	if len(os.Args) > 1 {
		word = os.Args[1]
	}
	switch word {
	case "etcd":
		exitOn("etcd", runEtcd(os.Args[2:]))
	case "etcd-compact":
		exitOn("etcd-compact", compactEtcd(os.Args[2:]))
	case "kube-apiserver":
		// The command reads os.Args when it has none of its own, and it must not see our first word.
		os.Args = append([]string{"kube-apiserver"}, os.Args[2:]...)
		os.Exit(cli.Run(app.NewAPIServerCommand()))
	case "version":
		fmt.Println(version.Get().GitVersion)
	default:
		fmt.Fprintln(os.Stderr, "usage: kube-test-server etcd|etcd-compact|kube-apiserver|version [FLAGS]")
		os.Exit(2)
	}
}

func exitOn(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "kube-test-server %s: %v\n", what, err)
		os.Exit(1)
	}
}
