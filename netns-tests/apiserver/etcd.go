package main

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
)

// runEtcd runs one member of its own cluster until it is told to end. The flags have the names of the real etcd's.
func runEtcd(args []string) error {
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	dir := flags.String("data-dir", "", "directory of the data")
	client := flags.String("listen-client-urls", "http://127.0.0.1:2379", "URL the API server comes to")
	peer := flags.String("listen-peer-urls", "http://127.0.0.1:2380", "URL other members would come to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return fmt.Errorf("--data-dir is missing")
	}
	clientURL, err := url.Parse(*client)
	if err != nil {
		return fmt.Errorf("--listen-client-urls: %w", err)
	}
	peerURL, err := url.Parse(*peer)
	if err != nil {
		return fmt.Errorf("--listen-peer-urls: %w", err)
	}

	config := embed.NewConfig()
	config.Dir = *dir
	config.ListenClientUrls = []url.URL{*clientURL}
	config.AdvertiseClientUrls = []url.URL{*clientURL}
	config.ListenPeerUrls = []url.URL{*peerURL}
	config.AdvertisePeerUrls = []url.URL{*peerURL}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.LogLevel = "warn"
	// The data live as long as a test: durability is not bought with an fsync per write.
	config.UnsafeNoFsync = true

	member, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer member.Close()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	select {
	case <-stop:
		return nil
	case err := <-member.Err():
		return err
	}
}

// compactEtcd forgets every revision but the newest, so that a watch which asks for an older one is told "expired".
func compactEtcd(args []string) error {
	flags := flag.NewFlagSet("etcd-compact", flag.ContinueOnError)
	endpoints := flags.String("endpoints", "http://127.0.0.1:2379", "URL of the etcd")
	if err := flags.Parse(args); err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoints}, DialTimeout: 10 * time.Second})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()

	answer, err := client.Get(ctx, "/")
	if err != nil {
		return fmt.Errorf("reading the revision of %s: %w", *endpoints, err)
	}
	if _, err := client.Compact(ctx, answer.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return fmt.Errorf("compacting %s: %w", *endpoints, err)
	}
	fmt.Println(answer.Header.Revision)
	return nil
}
