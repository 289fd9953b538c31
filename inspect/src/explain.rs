//! `ovn-k8s explain`: which owner receives a frame, and which rule decides.
//!
//! ```text
//!   words, digits, capture --input--> Frame --+
//!                                             +-- decide_branches --> verdict, rule, service --+
//!   running helper, or a file --source--> Policy                                               +--> Answer --print-->
//!                                                                                              |
//!   --live:  zone --> owner;  fields --> ofproto/trace --trace--> flows met, ports --compare---+
//! ```
//!
//! Explains one described packet, one frame of bytes, or a whole capture. When the connection's owner is not known, it
//! shows one branch for each possible owner. With `--live` it also traces the frame through the bridge and reports where
//! the two differ (exit status 2).
//!
//! It never sends a frame, never changes a flow or a connection, and needs no helper when a policy is given. The bridge
//! traces fields, not bytes: bytes would be learned and committed.

use std::ffi::OsString;
use std::process::ExitCode;

use demux::decide::{Branch, Ingress, Owner, decide, decide_branches};
use demux::frame::Frame;
use demux::policy::Policy;
use ovs::paths::Paths;

use self::answer::{Answer, FrameAnswer};
use self::args::{ExplainArgs, Input};
use self::error::ExplainError;
use self::live::{ConnectionOwner, LiveBridge};
use cli::OutputFormat;

mod answer;
mod args;
mod compare;
mod conntrack;
mod describe;
mod error;
mod fields;
mod input;
mod live;
mod packet;
mod print;
mod source;
mod trace;

/// The name in errors.
const NAME: &str = "ovn-k8s explain";
/// Exit status when the bridge disagrees with the policy.
const DIFFERS: u8 = 2;

/// Runs `ovn-k8s explain`. `args` begin with its name. Exits 0 with an answer, 1 without one, and 2 when the bridge
/// disagrees with the policy.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: ExplainArgs = match cli::parse(NAME, args) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match answer(&args) {
        Ok((text, differences)) => {
            cli::print(&text);
            if differences == 0 { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) }
        }
        Err(error) => cli::fail(NAME, &error.to_string()),
    }
}

/// The answer as text, and the number of frames on which bridge and policy differ.
fn answer(args: &ExplainArgs) -> Result<(String, usize), ExplainError> {
    let input = args.input()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime.map_err(ExplainError::Start)?.block_on(explain(args, &input))?;
    let text = match args.output.format {
        OutputFormat::Json => cli::json(&answer)?,
        OutputFormat::Table => {
            print::Table { answer: &answer, capture: matches!(input, Input::Capture(_)) }.to_string()
        }
    };
    Ok((text, answer.differences))
}

async fn explain(args: &ExplainArgs, input: &Input) -> Result<Answer, ExplainError> {
    let (ingress, owner) = (args.ingress()?, args.owner()?);
    let paths = Paths::from_env();
    let (policy, origin) = source::policy(args, &paths).await?;
    let mut live = None;
    if args.live {
        let bridge = source::bridge(args, &paths).await?;
        live = Some(LiveBridge::open(args, &paths, bridge).await?);
    }
    let mut frames = Vec::new();
    for frame in input::frames(input, ingress, policy.split.mac)? {
        frames.push(explain_frame(&policy, ingress, &frame, owner, live.as_mut()).await?);
    }
    Ok(Answer::of(origin, live.map(|live| live.bridge.name), frames))
}

async fn explain_frame(
    policy: &Policy,
    ingress: Ingress,
    frame: &Frame,
    given: Option<Option<Owner>>,
    mut live: Option<&mut LiveBridge>,
) -> Result<FrameAnswer, ExplainError> {
    let depends = decide(policy, ingress, frame, None).depends_on_owner;
    let read = match (given.filter(|_| depends), live.as_deref_mut()) {
        (Some(owner), _) => Some(ConnectionOwner { owner, by: "as given".to_owned() }),
        (None, Some(live)) if depends => live.owner(frame).await?,
        _ => None,
    };
    let branches = match &read {
        Some(ConnectionOwner { owner, .. }) => {
            vec![Branch { owner: *owner, decision: decide(policy, ingress, frame, *owner) }]
        }
        None => decide_branches(policy, ingress, frame),
    };
    let mut answer = FrameAnswer::of(&policy.split, ingress, frame, read, &branches);
    if let Some(live) = live {
        for (branch, shown) in branches.iter().zip(&mut answer.branches) {
            let trace = live.trace(ingress, frame, branch.owner).await?;
            shown.live = Some(compare::compare(&policy.split, &branch.decision, &trace, &live.bridge));
        }
    }
    Ok(answer)
}
