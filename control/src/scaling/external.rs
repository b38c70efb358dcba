//! `[metric.NAME]`: one number from elsewhere, asked for again and again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use weir_config::{Config, ExternalMetric, MetricName, MetricSource};

use crate::client::{segment, tls_for};
use crate::command;
use crate::node::Node;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Those who ask.
#[derive(Debug, Default)]
pub(super) struct Externals(HashMap<MetricName, Asking>);

/// One metric and the task that asks for it, which ends with this.
#[derive(Debug)]
struct Asking {
    metric: Arc<ExternalMetric>,
    task: JoinHandle<()>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Externals {
    /// Asks for what this configuration names, and for nothing else.
    pub(super) fn apply(&mut self, node: &Node, config: &Config) {
        self.0.retain(|name, asking| config.metrics.get(name) == Some(&asking.metric));
        for (name, metric) in &config.metrics {
            self.0.entry(name.clone()).or_insert_with(|| {
                let task = tokio::spawn(ask_again_and_again(metric.clone(), node.clone()));
                Asking { metric: metric.clone(), task }
            });
        }
    }
}

async fn ask_again_and_again(metric: Arc<ExternalMetric>, node: Node) {
    let mut ticks = interval(metric.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        let result = ask(&metric).await;
        // Said once, and again when it is over: it may go on for days.
        match &result {
            Err(reason) if !failing => warn!(metric = %metric.name.0, "the metric has no value: {reason}"),
            Ok(_) if failing => info!(metric = %metric.name.0, "the metric has a value again"),
            _ => {}
        }
        failing = result.is_err();
        if let Ok(value) = result {
            node.meter().lock().put_external(&metric.name, value, super::unix_now());
        }
    }
}

async fn ask(metric: &ExternalMetric) -> Result<f64, String> {
    match &metric.source {
        MetricSource::Command(command) => number(&command::output(command, metric.timeout).await?),
        MetricSource::Prometheus { url, ca_file, query, token_file } => {
            let token = token_file.as_deref().map(crate::api::read_token).transpose().map_err(|error| error.to_string())?;
            let url = format!("{}/api/v1/query?query={}", url.trim_end_matches('/'), segment(query));
            let (timeout, ca_file) = (metric.timeout, ca_file.clone());
            let asked = tokio::task::spawn_blocking(move || fetch(&url, ca_file, token.as_deref(), timeout));
            first_sample(&asked.await.map_err(|error| error.to_string())??)
        }
    }
}

fn fetch(url: &str, ca_file: Option<PathBuf>, token: Option<&str>, timeout: Duration) -> Result<Vec<u8>, String> {
    let tls = tls_for(url, ca_file)?;
    let agent =
        ureq::Agent::config_builder().proxy(None).max_redirects(0).tls_config(tls).timeout_global(Some(timeout)).build().new_agent();
    let mut request = agent.get(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut response = request.call().map_err(|error| error.to_string())?;
    response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(|error| error.to_string())
}

/// The number in the first line that a program prints.
fn number(text: &str) -> Result<f64, String> {
    let text = text.trim();
    text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(|| format!("{text:?} is not a number"))
}

/// The first sample of an instant query: of a vector, or a scalar.
fn first_sample(answer: &[u8]) -> Result<f64, String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|error| format!("the answer is not that of Prometheus: {error}"))?;
    if answer["status"] != "success" {
        return Err(format!("the query is refused: {}", answer["error"].as_str().unwrap_or("no reason is told")));
    }
    let result = &answer["data"]["result"];
    let value = match answer["data"]["resultType"].as_str() {
        Some("scalar") => &result[1],
        _ => &result[0]["value"][1],
    };
    number(value.as_str().ok_or("the query has no result")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_prometheus() {
        let vector = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1.5,"7.25"]}]}}"#;
        for (answer, expected) in [
            (vector, Ok(7.25)),
            (r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"3"]}}"#, Ok(3.0)),
            (r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#, Err("no result")),
            (r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"NaN"]}}"#, Err("not a number")),
            (r#"{"status":"error","error":"parse error"}"#, Err("parse error")),
            ("<html>", Err("not that of Prometheus")),
        ] {
            match (first_sample(answer.as_bytes()), expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value, expected),
                (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{reason}"),
                (result, expected) => panic!("{answer}: {result:?} instead of {expected:?}"),
            }
        }
    }

    fn metric(source: MetricSource) -> ExternalMetric {
        ExternalMetric { name: MetricName("load".into()), source, interval: Duration::from_secs(1), timeout: Duration::from_secs(20) }
    }

    #[tokio::test]
    async fn a_program() {
        let run = |script: &str| MetricSource::Command(vec!["/bin/sh".into(), "-c".into(), script.into()]);
        assert_eq!(ask(&metric(run("echo ' 12.5'; echo more"))).await, Ok(12.5));
        assert_eq!(ask(&metric(run("echo many"))).await, Err("\"many\" is not a number".into()));
        assert!(ask(&metric(run("echo 1; exit 3"))).await.is_err_and(|reason| reason.contains("exits with 3")));
        let hangs = ExternalMetric { timeout: Duration::from_millis(200), ..metric(run("exec sleep 1000")) };
        assert!(ask(&hangs).await.is_err_and(|reason| reason.contains("took longer")));
    }

    #[tokio::test]
    async fn a_server_with_a_token() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("token");
        std::fs::write(&token, "s3cret").expect("written");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("asked");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a head");
                head.push(byte[0]);
            }
            let body = r#"{"status":"success","data":{"resultType":"scalar","result":[0,"4"]}}"#;
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).expect("answered");
            String::from_utf8(head).expect("text")
        });
        let source = MetricSource::Prometheus { url, ca_file: None, query: "sum(rate(x[1m]))".into(), token_file: Some(token) };
        assert_eq!(ask(&metric(source)).await, Ok(4.0));
        let head = server.join().expect("no panic").to_lowercase();
        assert!(head.starts_with("get /api/v1/query?query=sum%28rate%28x%5b1m%5d%29%29 "), "{head}");
        assert!(head.contains("authorization: bearer s3cret"), "{head}");
    }
}
