//! The switch's error messages, in words.

/// An error message of the switch: OpenFlow's type and code, and their name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error {kind}/{code}")]
pub struct SwitchError {
    /// OpenFlow error type.
    pub kind: u16,
    /// OpenFlow error code within the type.
    pub code: u16,
}
