//! Cookies: the owner of a flow, and the rule of the policy it stands for.
//!
//! The high half of a cookie says that the flow is ours, the low 16 bits are the number of its rule. Flows that only
//! pass a frame on carry the number of a step ([`RuleId::is_step`]).

use demux::rule::RuleId;
use ovs::openflow::{Cookies, Ours};

/// The high half of every cookie of ours.
pub const MARK: u64 = 0x6f76_6e38_0000_0000;
/// The bits of a cookie that identify the flow's owner.
pub const MASK: u64 = 0xffff_ffff_0000_0000;

/// The cookie of the flows of a rule.
pub fn of_rule(rule: RuleId) -> u64 {
    MARK | u64::from(rule.number())
}

/// The rule that a flow with this cookie stands for; `None` for flows that are not ours.
pub fn rule_of(cookie: u64) -> Option<RuleId> {
    if cookie & MASK != MARK {
        return None;
    }
    u16::try_from(cookie & !MASK).ok().and_then(RuleId::from_u16)
}

/// All flows of ours, learned ones included.
pub fn cookies() -> Cookies {
    Cookies { value: MARK, mask: MASK }
}

/// The cookie of learned flows. They come and go with traffic and are never compared.
pub fn learned() -> u64 {
    of_rule(RuleId::SctpLearned)
}

/// Which flows of a bridge are ours, for a comparison.
pub fn ours() -> Ours {
    Ours { cookies: cookies(), learned: vec![learned()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_comes_back_from_its_cookie_and_no_foreign_one_does() {
        for rule in RuleId::ALL {
            assert_eq!(rule_of(of_rule(*rule)), Some(*rule));
            assert!(cookies().contain(of_rule(*rule)));
        }
        for foreign in [0, 1, u64::MAX, MARK, MARK | 0x1_0001, MARK ^ (1 << 32)] {
            assert_eq!(rule_of(foreign), None, "{foreign:#x}");
        }
    }
}
