//! The lab guest's own program, built static with nothing but the standard library, because the image holds nothing else.
//!
//! `guest seed FOLDER` reads a NoCloud seed and prints shell assignments; `guest serve [PORT]` is the HTTP server of the machine.

mod faults;
mod http;
mod identity;
mod load;
mod pages;
mod seed;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["seed", folder] => {
            print!("{}", seed::read(folder.as_ref()).assignments());
            ExitCode::SUCCESS
        }
        ["serve"] => serve(80),
        ["serve", port] if port.parse::<u16>().is_ok() => serve(port.parse().unwrap_or(80)),
        _ => {
            eprintln!("usage: guest seed FOLDER | guest serve [PORT]");
            ExitCode::from(2)
        }
    }
}

fn serve(port: u16) -> ExitCode {
    match http::serve(port, pages::answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest: port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}
