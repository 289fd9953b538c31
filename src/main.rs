//! One binary, several names: looks at the name it was called by and hands over to a crate.

use std::process::ExitCode;

mod applet;

use applet::{Applet, Call};

fn main() -> ExitCode {
    match applet::resolve(std::env::args_os()) {
        // First, and with nothing set up: it has to come up on a node where little still works.
        Call::Run(Applet::UplinkWatchdog, args) => uplink::watchdog::main(args),
        Call::Run(applet, args) => {
            // Before any dependency can ask for one: two providers in one binary would be a panic at the first TLS
            // connection.
            ovs::tls::install_provider();
            match applet {
                Applet::Status => inspect::status::main(args),
                Applet::GatewayHelper => helper::main(args),
                Applet::Explain => inspect::explain::main(args),
                Applet::Util => uplink::util::main(args),
                Applet::Doctor => inspect::doctor::main(args),
                Applet::UplinkWatchdog => uplink::watchdog::main(args),
            }
        }
        Call::Print(text) => {
            cli::print(&text);
            ExitCode::SUCCESS
        }
        Call::Refuse(line) => cli::fail(applet::BINARY, &line),
    }
}
