//! With the real nft, in private namespaces.

use super::*;
use crate::netns::Namespace;

fn inside<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send) {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work());
    Namespace::create().unwrap().run(run).unwrap();
}

const SCRIPT: &str = r#"
table inet ours {
  map svc { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
            elements = { 10.0.0.1 . 6 . 80 : 10.96.0.1 . 8080 } }
  set names { type inet_service; elements = { 22 } }
  chain out { type nat hook output priority -100
    dnat ip to ip daddr . meta l4proto . th dport map @svc comment "one"
    counter
  }
  chain aside {
    drop comment "two"
  }
}
"#;

fn texts(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|&part| part.to_owned()).collect()
}

#[test]
fn a_table_is_listed_as_it_was_made() {
    inside(|| async {
        let nft = Nft::default();
        assert_eq!(nft.table("ours").await.unwrap(), None);
        nft.check("try", SCRIPT).await.unwrap();
        assert_eq!(nft.table("ours").await.unwrap(), None, "a check changes nothing");
        nft.apply("make", SCRIPT).await.unwrap();
        let table = nft.table("ours").await.unwrap().unwrap();
        let svc = &table.sets["svc"];
        assert_eq!(svc.key, texts(&["ipv4_addr", "inet_proto", "inet_service"]));
        assert_eq!(svc.data, texts(&["ipv4_addr", "inet_service"]));
        let element = Element { key: texts(&["10.0.0.1", "tcp", "80"]), data: texts(&["10.96.0.1", "8080"]) };
        assert_eq!(svc.elements, [element]);
        assert_eq!(table.sets["names"].elements, [Element { key: texts(&["22"]), data: vec![] }]);
        let hook = table.chains["out"].hook.as_ref().unwrap();
        assert_eq!((hook.kind.as_str(), hook.hook.as_str(), hook.priority), ("nat", "output", -100));
        let comments: Vec<_> = table.chains["out"].rules.iter().map(|rule| rule.comment.as_deref()).collect();
        assert_eq!(comments, [Some("one"), None]);
        assert_eq!(table.chains["aside"].hook, None);
        assert!(table.others.is_empty());
    });
}

#[test]
fn a_script_is_applied_as_a_whole_or_not_at_all() {
    inside(|| async {
        let nft = Nft::default();
        let script = format!("{SCRIPT}\nadd element inet ours absent {{ 1 }}\n");
        let error = nft.apply("make the table", &script).await.unwrap_err().to_string();
        assert!(
            error.contains("cannot make the table: nft says:") && error.contains("No such file"),
            "{error}"
        );
        assert_eq!(nft.table("ours").await.unwrap(), None);
    });
}

#[test]
fn a_missing_tool_is_said_with_the_remedy() {
    inside(|| async {
        let error = Nft::at("/nonexistent/nft").apply("make the table", "").await.unwrap_err().to_string();
        assert!(
            error.contains("cannot make the table") && error.contains("apt-get install nftables"),
            "{error}"
        );
    });
}

#[test]
fn what_is_not_nft_output_is_refused() {
    assert!(listing::parse(b"{}").is_err());
    assert!(listing::parse(b"not json").is_err());
    assert!(
        listing::parse(
            br#"{"nftables":[{"set":{"name":"a","type":"x","elem":[{"elem":{"val":1,"timeout":5}}]}}]}"#
        )
        .is_ok()
    );
}
