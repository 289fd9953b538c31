//! The switch's error messages, with names and meanings.

use std::fmt;

use super::bytes::Reader;
use super::message::HEADER;
use super::{Malformed, NICIRA};

/// An error message of the switch: OpenFlow's type and code. Shown with its name and meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchError {
    /// OpenFlow error type; 0xffff for one of an experimenter.
    pub kind: u16,
    /// OpenFlow error code within the type, or the experimenter's number for it.
    pub code: u16,
    /// The experimenter, 0 for OpenFlow itself.
    pub vendor: u32,
}

const EXPERIMENTER: u16 = 0xffff;

/// The errors that Open vSwitch can send. The names are those its own tools print.
const NAMES: &[(u16, u16, &str, &str)] = &[
    (0, 0, "OFPHFC_INCOMPATIBLE", "no common protocol version"),
    (0, 1, "OFPHFC_EPERM", "not permitted"),
    (1, 0, "OFPBRC_BAD_VERSION", "wrong protocol version"),
    (1, 1, "OFPBRC_BAD_TYPE", "unknown message type"),
    (1, 2, "OFPBRC_BAD_STAT", "unknown multipart type"),
    (1, 3, "OFPBRC_BAD_VENDOR", "unknown experimenter"),
    (1, 4, "OFPBRC_BAD_SUBTYPE", "unknown experimenter message"),
    (1, 5, "OFPBRC_EPERM", "not permitted"),
    (1, 6, "OFPBRC_BAD_LEN", "wrong length of the message"),
    (1, 9, "OFPBRC_BAD_TABLE_ID", "no such table"),
    (1, 10, "OFPBRC_IS_SECONDARY", "another controller is master"),
    (1, 11, "OFPBRC_BAD_PORT", "no such port"),
    (2, 0, "OFPBAC_BAD_TYPE", "unknown action"),
    (2, 1, "OFPBAC_BAD_LEN", "wrong length of an action"),
    (2, 2, "OFPBAC_BAD_VENDOR", "unknown experimenter of an action"),
    (2, 3, "OFPBAC_BAD_VENDOR_TYPE", "unknown experimenter action"),
    (2, 4, "OFPBAC_BAD_OUT_PORT", "no such output port"),
    (2, 5, "OFPBAC_BAD_ARGUMENT", "bad argument of an action"),
    (2, 6, "OFPBAC_EPERM", "action not permitted"),
    (2, 7, "OFPBAC_TOO_MANY", "too many actions"),
    (2, 10, "OFPBAC_MATCH_INCONSISTENT", "the action needs something that is not in the match"),
    (2, 11, "OFPBAC_UNSUPPORTED_ORDER", "actions in an order that is not supported"),
    (2, 13, "OFPBAC_BAD_SET_TYPE", "an unknown field is set"),
    (2, 14, "OFPBAC_BAD_SET_LEN", "a field is set with a wrong length"),
    (2, 15, "OFPBAC_BAD_SET_ARGUMENT", "a field is set to a value it cannot have, or is read-only"),
    (3, 0, "OFPBIC_UNKNOWN_INST", "unknown instruction"),
    (3, 1, "OFPBIC_UNSUP_INST", "instruction not supported"),
    (3, 2, "OFPBIC_BAD_TABLE_ID", "goto_table to a table that does not exist or does not come later"),
    (3, 7, "OFPBIC_BAD_LEN", "wrong length of an instruction"),
    (3, 9, "OFPBIC_DUP_INST", "an instruction twice"),
    (4, 0, "OFPBMC_BAD_TYPE", "unknown kind of match"),
    (4, 1, "OFPBMC_BAD_LEN", "wrong length of the match"),
    (4, 5, "OFPBMC_BAD_WILDCARDS", "wildcards that are not supported"),
    (4, 6, "OFPBMC_BAD_FIELD", "unknown field in the match"),
    (4, 7, "OFPBMC_BAD_VALUE", "a field is matched with a value it cannot have"),
    (4, 8, "OFPBMC_BAD_MASK", "a mask that is not supported"),
    (
        4,
        9,
        "OFPBMC_BAD_PREREQ",
        "a field is matched without what it needs, such as the protocol before its ports",
    ),
    (4, 10, "OFPBMC_DUP_FIELD", "a field is matched twice"),
    (5, 0, "OFPFMFC_UNKNOWN", "the flow change failed"),
    (5, 1, "OFPFMFC_TABLE_FULL", "the table is full"),
    (5, 2, "OFPFMFC_BAD_TABLE_ID", "no such table"),
    (5, 3, "OFPFMFC_OVERLAP", "another flow overlaps"),
    (5, 4, "OFPFMFC_EPERM", "not permitted, the table is read-only"),
    (5, 5, "OFPFMFC_BAD_TIMEOUT", "timeouts that are not supported"),
    (5, 6, "OFPFMFC_BAD_COMMAND", "unknown command"),
    (5, 7, "OFPFMFC_BAD_FLAGS", "unknown flags"),
    (14, 0, "OFPBPC_BAD_TYPE", "unknown property"),
    (14, 1, "OFPBPC_BAD_LEN", "wrong length of a property"),
    (14, 2, "OFPBPC_BAD_VALUE", "a property has a value that is not supported"),
    (15, 0, "OFPACFC_INVALID", "wrong asynchronous configuration"),
    (15, 1, "OFPACFC_UNSUPPORTED", "asynchronous configuration not supported"),
    (16, 0, "OFPMOFC_UNKNOWN", "the flow monitor failed"),
    (16, 1, "OFPMOFC_MONITOR_EXISTS", "the flow monitor exists already"),
    (17, 0, "OFPBFC_UNKNOWN", "the bundle failed"),
    (17, 1, "OFPBFC_EPERM", "not permitted"),
    (17, 2, "OFPBFC_BAD_ID", "no such bundle"),
    (17, 3, "OFPBFC_BUNDLE_EXIST", "the bundle exists already"),
    (17, 4, "OFPBFC_BUNDLE_CLOSED", "the bundle is closed"),
    (17, 5, "OFPBFC_OUT_OF_BUNDLES", "too many bundles"),
    (17, 6, "OFPBFC_BAD_TYPE", "unknown bundle request"),
    (17, 7, "OFPBFC_BAD_FLAGS", "bundle flags not supported or changed under way"),
    (17, 8, "OFPBFC_MSG_BAD_LEN", "wrong length of a message in the bundle"),
    (17, 9, "OFPBFC_MSG_BAD_XID", "wrong number of a message in the bundle"),
    (17, 10, "OFPBFC_MSG_UNSUP", "a message that bundles do not take"),
    (17, 11, "OFPBFC_MSG_CONFLICT", "messages that do not go together"),
    (17, 12, "OFPBFC_MSG_TOO_MANY", "too many messages in the bundle"),
    (17, 13, "OFPBFC_MSG_FAILED", "a message in the bundle failed"),
    (17, 14, "OFPBFC_TIMEOUT", "the bundle took too long"),
    (17, 15, "OFPBFC_BUNDLE_IN_PROGRESS", "another bundle is under way"),
];

/// Nicira's own, by number.
const NICIRA_NAMES: &[(u16, &str, &str)] = &[
    (2, "NXBRC_NXM_INVALID", "invalid match"),
    (3, "NXBRC_NXM_BAD_TYPE", "unknown field, or a mask it cannot have"),
    (4, "NXBRC_MUST_BE_ZERO", "a reserved field is not zero"),
    (10, "NXBRC_UNENCODABLE_ERROR", "an error that this protocol version has no number for"),
    (11, "NXBAC_MUST_BE_ZERO", "a reserved field of an action is not zero"),
    (13, "NXFMFC_BAD_TABLE_ID", "no such table"),
    (22, "OFPBFC_BAD_VERSION", "a message in the bundle has another protocol version"),
    (42, "NXBAC_CT_DATAPATH_SUPPORT", "an action needs connection tracking that the datapath does not have"),
    (43, "NXBMC_CT_DATAPATH_SUPPORT", "a match needs connection tracking that the datapath does not have"),
];

impl SwitchError {
    /// Its name as Open vSwitch's tools print it, if known here.
    pub fn name(self) -> Option<&'static str> {
        self.meaning().map(|(name, _)| name)
    }

    fn meaning(self) -> Option<(&'static str, &'static str)> {
        if self.vendor == NICIRA {
            return NICIRA_NAMES.iter().find(|entry| entry.0 == self.code).map(|entry| (entry.1, entry.2));
        }
        NAMES
            .iter()
            .find(|entry| (entry.0, entry.1) == (self.kind, self.code))
            .map(|entry| (entry.2, entry.3))
    }
}

impl fmt::Display for SwitchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.meaning(), self.vendor) {
            (Some((name, meaning)), _) => write!(f, "{name} ({meaning})"),
            (None, 0) => write!(f, "OpenFlow error type {} code {}", self.kind, self.code),
            (None, vendor) => write!(f, "error {} of experimenter {vendor:#x}", self.code),
        }
    }
}

/// Every type and code that has a name here.
#[cfg(test)]
pub(super) fn known() -> impl Iterator<Item = (u16, u16)> {
    NAMES.iter().map(|entry| (entry.0, entry.1))
}

/// Every number of Nicira's that has a name here.
#[cfg(test)]
pub(super) fn known_of_nicira() -> impl Iterator<Item = u16> {
    NICIRA_NAMES.iter().map(|entry| entry.0)
}

/// Reads an error message (header included).
pub(crate) fn read_error(message: &[u8]) -> Result<SwitchError, Malformed> {
    let mut body = Reader::new(message);
    body.skip(HEADER)?;
    let (kind, code) = (body.u16()?, body.u16()?);
    let vendor = if kind == EXPERIMENTER { body.u32()? } else { 0 };
    Ok(SwitchError { kind, code, vendor })
}
