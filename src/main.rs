//! One binary, several names: runs the crate of the name that it is called by.

use std::process::ExitCode;

mod applet;

use applet::{Applet, Call};

fn main() -> ExitCode {
    match applet::resolve(std::env::args_os()) {
        // Before anything is set up: it must start on a node where little else works.
        Call::Run(Applet::UplinkWatchdog, args) => uplink::watchdog::main(args),
        Call::Run(applet, args) => {
            // Before any dependency needs one: with two providers in one binary the first TLS connection panics.
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
