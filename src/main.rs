//! One binary, several names: looks at the name it was called by and hands over to a crate.

use std::io::Write;
use std::process::ExitCode;

mod applet;

use applet::{Applet, Call};

fn main() -> ExitCode {
    match applet::resolve(std::env::args_os()) {
        // First, and with nothing set up: it has to come up on a node where little still works.
        Call::Run(Applet::UplinkDeadman, args) => gateway::uplink::deadman::main(args),
        Call::Run(applet, args) => {
            // Before any dependency can ask for one: two providers in one binary would be a panic at the first TLS
            // connection.
            gateway::tls::install_provider();
            match applet {
                Applet::Status => gateway::ask::status(args),
                Applet::GatewayHelper => gateway::helper::start::main(args),
                Applet::Explain => gateway::explain::main(args),
                Applet::Util => gateway::uplink::util::main(args),
                Applet::Doctor => gateway::doctor::main(args),
                Applet::UplinkDeadman => gateway::uplink::deadman::main(args),
            }
        }
        Call::Print(text) => {
            // A reader that closes the pipe early has seen enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Call::Refuse(line) => refuse(&line),
    }
}

fn refuse(line: &str) -> ExitCode {
    eprintln!("{}: {line}", applet::BINARY);
    ExitCode::FAILURE
}
