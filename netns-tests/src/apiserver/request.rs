//! Asking the API server for things, by curl: the fixture has no HTTP client of its own that could share a fault
//! with what is tested.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{ApiServer, process};

/// How an object that may exist or not is written: server-side apply, which makes or changes it.
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

impl ApiServer {
    /// Make an object, or change it to this. Knows the kinds this product uses.
    ///
    /// # Errors
    ///
    /// When the server refuses it.
    pub fn apply(&self, object: &Value) -> Result<Value> {
        let path = format!("{}?fieldManager=test&force=true", object_path(object)?);
        self.request("PATCH", &path, Some((APPLY, object)))
    }

    /// Set the status of an object, as a controller does. Takes the object with its `status`.
    ///
    /// # Errors
    ///
    /// When the server refuses it.
    pub fn apply_status(&self, object: &Value) -> Result<Value> {
        let path = format!("{}/status", object_path(object)?);
        self.request("PATCH", &path, Some((MERGE, &serde_json::json!({ "status": object["status"] }))))
    }

    /// Make many new objects, some tens of them at a time: a few milliseconds each.
    ///
    /// # Errors
    ///
    /// When the server refuses one of them.
    pub fn create_all<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) -> Result<()> {
        let mut config = String::new();
        for object in objects {
            let path = object_path(object)?;
            let (collection, _) = path.rsplit_once('/').context("a path without a slash")?;
            if !config.is_empty() {
                config.push_str("next\n");
            }
            // JSON's way of quoting a text is one that curl's configuration reads.
            let body = Value::String(object.to_string());
            let _ = writeln!(
                config,
                "url = \"{}{collection}\"\nrequest = POST\ndata-binary = {body}",
                self.url()
            );
            let _ = writeln!(config, "header = \"Content-Type: application/json\"\noutput = /dev/null\nfail");
            let _ = writeln!(config, "header = \"Authorization: Bearer {}\"", self.token());
            let _ = writeln!(config, "cacert = {}", self.ca_file().display());
        }
        if config.is_empty() {
            return Ok(());
        }
        let args =
            ["-sS", "--parallel", "--parallel-max", "20", "--fail-early", "--config", "-"].map(str::to_owned);
        process::run(self.netns.as_deref(), Path::new("curl"), &args, Some(config.as_bytes())).map(drop)
    }

    /// Delete an object, named by `apiVersion`, `kind` and `metadata`.
    ///
    /// # Errors
    ///
    /// When the server refuses, or there is no such object.
    pub fn delete(&self, object: &Value) -> Result<Value> {
        self.request("DELETE", &object_path(object)?, None)
    }

    /// What is at a path, as `/api/v1/services`.
    ///
    /// # Errors
    ///
    /// When the server refuses or is not there.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.request("GET", path, None)
    }

    /// Any request: method, path, and a body with its type.
    ///
    /// # Errors
    ///
    /// When the server is not there or answers with an error; its message is in the error.
    pub fn request(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Value> {
        let mut args = vec!["-sS".to_owned(), "-X".to_owned(), method.to_owned()];
        args.extend(["--cacert".to_owned(), self.ca_file().display().to_string()]);
        args.extend(["-H".to_owned(), format!("Authorization: Bearer {}", self.token())]);
        args.extend(["-w".to_owned(), "\n%{http_code}".to_owned(), "--max-time".to_owned(), "60".to_owned()]);
        let input = body.map(|(kind, body)| {
            args.extend([
                "-H".to_owned(),
                format!("Content-Type: {kind}"),
                "--data-binary".to_owned(),
                "@-".to_owned(),
            ]);
            body.to_string()
        });
        args.push(format!("{}{path}", self.url()));
        let input = input.as_ref().map(String::as_bytes);
        let answer = process::run(self.netns.as_deref(), Path::new("curl"), &args, input)?;
        let (text, code) = answer.rsplit_once('\n').context("curl gave no status")?;
        if !code.starts_with('2') {
            bail!("{method} {path}: {code}: {text}");
        }
        // /readyz and its like answer in plain text.
        Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
    }
}

/// Where an object lives.
fn object_path(object: &Value) -> Result<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kind = text(&object["kind"]).context("the object has no kind")?;
    let version = text(&object["apiVersion"]).context("the object has no apiVersion")?;
    let name = text(&object["metadata"]["name"]).context("the object has no name")?;
    let root = if version.contains('/') { "apis" } else { "api" };
    let plural = format!("{}{}", kind.to_lowercase(), if kind == "Endpoints" { "" } else { "s" });
    let is_cluster_wide =
        ["Namespace", "Node", "ServiceCIDR", "ClusterRole", "ClusterRoleBinding"].contains(&&*kind);
    let namespace = text(&object["metadata"]["namespace"]).unwrap_or_else(|| "default".to_owned());
    let scope = if is_cluster_wide { String::new() } else { format!("namespaces/{namespace}/") };
    Ok(format!("/{root}/{version}/{scope}{plural}/{name}"))
}
