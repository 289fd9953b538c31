//! `ovn-k8s explain`: whose a frame is, and the rule that says so.
//!
//! ```text
//!   words, digits, capture --input--> Frame --+
//!                                             +-- decide_branches --> verdict, rule, service --+
//!   running helper, or a file --source--> Policy                                               +--> Answer --print-->
//!                                                                                              |
//!   --live:  zone --> owner;  fields --> ofproto/trace --trace--> flows met, ports --compare---+
//! ```
//!
//! Does: answers for one described packet, one frame of bytes, or a whole capture; without an owner for every possible
//! one. With `--live` it asks the bridge too, and says plainly where the two differ (exit code 2).
//!
//! Never: sends a frame, changes a flow or a connection, needs a helper where a policy is given. The bridge is asked
//! about fields, not bytes: those would be learned and committed.

use std::ffi::OsString;
use std::process::ExitCode;

use demux::decide::{Branch, Ingress, Owner, decide, decide_branches};
use demux::frame::Frame;
use demux::policy::Policy;
use ovs::paths::Paths;

use self::answer::{Answer, FrameAnswer};
use self::args::{ExplainArgs, Input};
use self::error::ExplainError;
use self::live::{Live, OwnerRead};
use cli::OutputFormat;

mod answer;
mod args;
mod compare;
mod describe;
mod error;
mod fields;
mod input;
mod live;
mod packet;
mod print;
mod source;
mod trace;
mod zone;

/// The name in errors.
const NAME: &str = "ovn-k8s explain";
/// The exit code that says that bridge and policy are not of one mind.
const DIFFERS: u8 = 2;

/// Runs `ovn-k8s explain`. `args` begin with its name. Exits 0 with an answer, 1 without one, and 2 when the bridge does
/// something else than the policy says.
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

/// The answer as text, and the number of differences in it.
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
        let site = source::site(args, &paths).await?;
        live = Some(Live::open(args, &paths, site).await?);
    }
    let mut frames = Vec::new();
    for frame in input::frames(input, ingress, policy.split.mac)? {
        frames.push(explain_frame(&policy, ingress, &frame, owner, live.as_mut()).await?);
    }
    Ok(Answer::of(origin, live.map(|live| live.site.bridge), frames))
}

async fn explain_frame(
    policy: &Policy,
    ingress: Ingress,
    frame: &Frame,
    given: Option<Option<Owner>>,
    mut live: Option<&mut Live>,
) -> Result<FrameAnswer, ExplainError> {
    let asked = decide(policy, ingress, frame, None).asked_owner;
    let read = match (given.filter(|_| asked), live.as_deref_mut()) {
        (Some(owner), _) => Some(OwnerRead { owner, by: "as given".to_owned() }),
        (None, Some(live)) if asked => live.owner(frame).await?,
        _ => None,
    };
    let branches = match &read {
        Some(OwnerRead { owner, .. }) => {
            vec![Branch { owner: *owner, decision: decide(policy, ingress, frame, *owner) }]
        }
        None => decide_branches(policy, ingress, frame),
    };
    let mut answer = FrameAnswer::of(&policy.split, ingress, frame, read, &branches);
    if let Some(live) = live {
        for (branch, said) in branches.iter().zip(&mut answer.branches) {
            let trace = live.trace(ingress, frame, branch.owner).await?;
            said.live = Some(compare::compare(&policy.split, &branch.decision, &trace, &live.site));
        }
    }
    Ok(answer)
}
