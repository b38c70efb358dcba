//! A worker's share of the access log: lines are put into a chunk here and written by another thread.

use std::sync::atomic::Ordering;

use weir_config::AccessLogFormat;

use crate::access_log::{self, Record};

use super::plane::LogSink;

/// A chunk is handed over when it is this full, or once a tick.
const CHUNK: usize = 32 * 1024;

/// The lines that were not handed over yet.
#[derive(Debug, Default)]
pub(super) struct Log {
    sink: Option<LogSink>,
    chunk: Vec<u8>,
    lines: u64,
}

impl Log {
    pub(super) fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    pub(super) fn set(&mut self, sink: Option<LogSink>) {
        self.flush();
        self.sink = sink;
    }

    pub(super) fn write(&mut self, record: &Record<'_>) {
        let Some(sink) = &self.sink else { return };
        match sink.format {
            AccessLogFormat::Json => access_log::write_json(record, &mut self.chunk),
            AccessLogFormat::Text => access_log::write_text(record, &mut self.chunk),
        }
        self.lines += 1;
        if self.chunk.len() >= CHUNK {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        let Some(sink) = &self.sink else { return };
        if self.chunk.is_empty() {
            return;
        }
        let next = Vec::with_capacity(CHUNK + CHUNK / 4);
        let chunk = std::mem::replace(&mut self.chunk, next);
        if sink.chunks.try_send(chunk).is_err() {
            sink.dropped.fetch_add(self.lines, Ordering::Relaxed);
        }
        self.lines = 0;
    }
}
