//! The `learn()` action as bytes: `NXAST_LEARN2`, and `NXAST_LEARN` when a switch reports one without a limit.

use super::NotOurs;
use super::bytes::{Reader, put_number, put_u16s};
use super::oxm;
use crate::openflow::flow::{Field, Learn, LearnSpec};

const DELETE_LEARNED: u16 = 2;

// One clause begins with 16 bits: where the value comes from, what becomes of it, how many bits it has.
const SOURCE_VALUE: u16 = 1 << 13;
const TO_OUTPUT: u16 = 2 << 11;
const KIND_BITS: u16 = 0xfc00;
const COUNT_BITS: u16 = 0x03ff;

/// Appends what follows the subtype; the caller pads and sets the length.
pub(crate) fn put(out: &mut Vec<u8>, learn: &Learn) {
    // Idle timeout, no hard timeout, priority; the cookie; flags; table and padding; no timeouts after FIN.
    put_u16s(out, &[learn.idle_timeout, 0, learn.priority]);
    out.extend_from_slice(&learn.cookie.to_be_bytes());
    put_u16s(
        out,
        &[if learn.delete_learned { DELETE_LEARNED } else { 0 }, u16::from(learn.table) << 8, 0, 0],
    );
    out.extend_from_slice(&learn.limit.to_be_bytes());
    put_u16s(out, &[0, 0]);
    for spec in &learn.specs {
        match *spec {
            LearnSpec::MatchValue(field, value) => {
                put_u16s(out, &[SOURCE_VALUE | bits(field)]);
                put_number(out, value & field.full_mask(), value_bytes(field.bits()));
                put_field(out, field);
            }
            LearnSpec::MatchField(field, source) => {
                put_u16s(out, &[bits(field)]);
                put_field(out, source);
                put_field(out, field);
            }
            LearnSpec::OutputField(source) => {
                put_u16s(out, &[TO_OUTPUT | bits(source)]);
                put_field(out, source);
            }
        }
    }
}

/// Reads what follows the subtype.
pub(crate) fn read(body: &mut Reader<'_>, second_form: bool) -> Result<Learn, NotOurs> {
    let idle_timeout = body.u16()?;
    let hard_timeout = body.u16()?;
    let priority = body.u16()?;
    let cookie = body.u64()?;
    let flags = body.u16()?;
    let table = body.u8()?;
    body.skip(1)?;
    let (fin_idle, fin_hard) = (body.u16()?, body.u16()?);
    let limit = if second_form { body.u32()? } else { 0 };
    if second_form {
        body.skip(4)?;
    }
    if hard_timeout != 0 || fin_idle != 0 || fin_hard != 0 || flags & !DELETE_LEARNED != 0 {
        return Err(NotOurs::Unknown("learn() with further timeouts or flags".to_owned()));
    }
    let mut specs = Vec::new();
    // A clause of no bits is the padding at the end.
    while body.remaining() >= 2 {
        let head = body.u16()?;
        if head == 0 {
            break;
        }
        specs.push(read_spec(body, head)?);
    }
    let delete_learned = flags & DELETE_LEARNED != 0;
    Ok(Learn { table, priority, cookie, idle_timeout, delete_learned, limit, specs })
}

fn read_spec(body: &mut Reader<'_>, head: u16) -> Result<LearnSpec, NotOurs> {
    let count = u32::from(head & COUNT_BITS);
    match head & KIND_BITS {
        SOURCE_VALUE => {
            let value = body.number(value_bytes(count))?;
            Ok(LearnSpec::MatchValue(oxm::read_whole_field(body, count)?, value))
        }
        0 => {
            let source = oxm::read_whole_field(body, count)?;
            Ok(LearnSpec::MatchField(oxm::read_whole_field(body, count)?, source))
        }
        TO_OUTPUT => Ok(LearnSpec::OutputField(oxm::read_whole_field(body, count)?)),
        other => Err(NotOurs::Unknown(format!("learn() with a clause of kind {other:#x}"))),
    }
}

fn put_field(out: &mut Vec<u8>, field: Field) {
    oxm::put_header(out, field, false);
    put_u16s(out, &[0]);
}

fn bits(field: Field) -> u16 {
    field.bits() as u16
}

/// An immediate value takes whole 16-bit words.
fn value_bytes(bits: u32) -> usize {
    bits.div_ceil(16) as usize * 2
}
