//! The client's side: the head of a request, and what is left of one that nobody wants.

use crate::cause::Cause;
use crate::http1::{Bounds, HeadError, Scanner};
use crate::shell::buffer::{Buf, SMALL};
use crate::shell::io::{self, Broken};
use crate::shell::stream::Stream;

use super::{Exchange, Upload};

/// The most of a refused request's body that is read and thrown away, so that its connection can go on.
pub(super) const DISCARDED_MAX: usize = 64 * 1024;

impl Exchange<'_> {
    /// Reads a request's head; `None`: the client closed before it sent anything.
    pub(super) async fn read_head<S: Stream>(&self, from_client: &S, input: &mut Buf) -> Result<Option<usize>, (Cause, &'static str)> {
        let bounds = Bounds::from(&self.http.limits);
        let mut scanner = Scanner::default();
        let mut timed = false;
        loop {
            if !input.is_empty() {
                match scanner.scan(input.filled(), &bounds) {
                    Ok(Some(head_len)) => {
                        if timed {
                            self.worker.timers.now_us();
                        } else {
                            self.trace.begin(self.worker);
                        }
                        return Ok(Some(head_len));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        if !timed {
                            self.trace.begin(self.worker);
                        }
                        return Err((cause_of(error), detail_of(error)));
                    }
                }
                if !timed {
                    timed = true;
                    self.trace.begin(self.worker);
                    self.timer.set_after(self.listener.config.timeouts.head);
                }
            }
            if input.spare().is_empty() && !input.make_room(bounds.head_bytes_max.max(SMALL)) {
                return Err((Cause::HeadTooLarge, "the head is larger than allowed"));
            }
            match io::read(from_client, self.timer, input).await {
                // Between two requests a reset is as good an end as any.
                Ok(0) | Err(Broken::Failed) if input.is_empty() => return Ok(None),
                Ok(0) | Err(Broken::Failed) => return Err((Cause::ClientClosed, "the client closed within the head")),
                Ok(_) => {}
                Err(Broken::Timeout) if input.is_empty() => return Ok(None),
                Err(Broken::Timeout) => return Err((Cause::HeadTimeout, "the request head did not come in time")),
            }
        }
    }

    /// Reads what is left of the request's body, for nobody. Whether its end came before it was too much or too late.
    pub(super) async fn discard<S: Stream>(&self, from_client: &S, upload: &mut Upload) -> bool {
        let mut discarded = 0;
        while !upload.body.is_done() {
            let mut buf = self.worker.buffers.small();
            let Ok(count) = io::read(from_client, self.timer, &mut buf).await else { return false };
            discarded += count;
            let Ok(advance) = upload.body.advance(buf.filled_mut()) else { return false };
            if count == 0 || discarded > DISCARDED_MAX {
                return false;
            }
            if advance.consumed < buf.len() {
                let mut rest = self.worker.buffers.fitting(buf.len() - advance.consumed);
                rest.push(&buf.filled()[advance.consumed..]);
                upload.rest = Some(rest);
            }
        }
        true
    }
}

pub(super) fn cause_of(error: HeadError) -> Cause {
    if error == HeadError::TooLarge { Cause::HeadTooLarge } else { Cause::BadRequest }
}

fn detail_of(error: HeadError) -> &'static str {
    match error {
        HeadError::TooLarge => "the head is larger than allowed",
        HeadError::BareLf => "a line does not end in CRLF",
        HeadError::Folded => "a header line begins with white space",
        _ => "the request is malformed",
    }
}
