//! Actions and instructions as bytes (OpenFlow 1.4 section 7.2.4, ovs-actions(7)).

use super::bytes::{Reader, pad8, put_u16s, set_length};
use super::{NICIRA, NotOurs, Unencodable, learn, oxm};
use crate::openflow::flow::{Action, Ct, Field, OfPort};

const INSTRUCTION_GOTO_TABLE: u16 = 1;
const INSTRUCTION_APPLY_ACTIONS: u16 = 4;

const OUTPUT: u16 = 0;
const SET_FIELD: u16 = 25;
const EXPERIMENTER: u16 = 0xffff;
const NX_RESUBMIT_TABLE: u16 = 14;
const NX_LEARN: u16 = 16;
const NX_CT: u16 = 35;
const NX_LEARN2: u16 = 45;

/// `OFPP_IN_PORT` in the 16 bits that `resubmit` has for it.
const RESUBMIT_SAME_PORT: u16 = 0xfff8;
const CT_COMMIT: u16 = 1;
const CT_NO_TABLE: u8 = 0xff;
/// `OFPP_CONTROLLER`: its `max_len` means something, so it is not one of our outputs.
const PORT_CONTROLLER: u32 = 0xffff_fffd;

/// Appends a flow's instructions: `apply_actions`, then `goto_table`, each only if there is one.
pub(crate) fn put_instructions(out: &mut Vec<u8>, actions: &[Action]) -> Result<(), Unencodable> {
    let (applied, goto) = match actions {
        [applied @ .., Action::GotoTable(table)] => (applied, Some(*table)),
        applied => (applied, None),
    };
    if !applied.is_empty() {
        let start = out.len();
        put_u16s(out, &[INSTRUCTION_APPLY_ACTIONS, 0, 0, 0]);
        for action in applied {
            put_action(out, action)?;
        }
        if !set_length(out, start + 2, start) {
            return Err(Unencodable::TooLong);
        }
    }
    if let Some(table) = goto {
        put_u16s(out, &[INSTRUCTION_GOTO_TABLE, 8]);
        out.extend_from_slice(&[table, 0, 0, 0]);
    }
    Ok(())
}

fn put_action(out: &mut Vec<u8>, action: &Action) -> Result<(), Unencodable> {
    let start = out.len();
    match action {
        Action::Output(port) => {
            put_u16s(out, &[OUTPUT, 0]);
            out.extend_from_slice(&port.0.to_be_bytes());
            out.extend_from_slice(&[0; 8]);
        }
        Action::Resubmit(table) => {
            put_nicira(out, NX_RESUBMIT_TABLE);
            put_u16s(out, &[RESUBMIT_SAME_PORT]);
            out.extend_from_slice(&[*table, 0, 0, 0]);
        }
        Action::Ct(ct) => put_ct(out, ct),
        Action::Learn(what) => {
            put_nicira(out, NX_LEARN2);
            learn::put(out, what);
        }
        Action::GotoTable(_) => return Err(Unencodable::GotoNotLast),
    }
    pad8(out, start);
    if set_length(out, start + 2, start) { Ok(()) } else { Err(Unencodable::TooLong) }
}

fn put_ct(out: &mut Vec<u8>, ct: &Ct) {
    put_nicira(out, NX_CT);
    put_u16s(out, &[if ct.commit { CT_COMMIT } else { 0 }, 0, 0, ct.zone]);
    // Recirculation table, three bytes of padding, no application helper.
    out.extend_from_slice(&[ct.table.unwrap_or(CT_NO_TABLE), 0, 0, 0, 0, 0]);
    if let Some(mark) = ct.mark {
        put_u16s(out, &[SET_FIELD, 16]);
        oxm::put_exact(out, Field::CtMark, u128::from(mark));
        out.extend_from_slice(&[0; 4]);
    }
}

fn put_nicira(out: &mut Vec<u8>, subtype: u16) {
    put_u16s(out, &[EXPERIMENTER, 0]);
    out.extend_from_slice(&NICIRA.to_be_bytes());
    put_u16s(out, &[subtype]);
}

/// Reads a flow's instructions to the end of the reader.
pub(crate) fn read_instructions(reader: &mut Reader<'_>) -> Result<Vec<Action>, NotOurs> {
    let mut actions = Vec::new();
    let mut goto = None;
    while !reader.is_empty() {
        let (kind, mut body) = read_header(reader)?;
        match kind {
            INSTRUCTION_APPLY_ACTIONS => {
                body.skip(4)?;
                read_actions(&mut body, &mut actions)?;
            }
            INSTRUCTION_GOTO_TABLE => goto = Some(Action::GotoTable(body.u8()?)),
            other => return Err(NotOurs::Unknown(format!("instruction {other}"))),
        }
    }
    actions.extend(goto);
    Ok(actions)
}

fn read_actions(reader: &mut Reader<'_>, actions: &mut Vec<Action>) -> Result<(), NotOurs> {
    while !reader.is_empty() {
        let (kind, mut body) = read_header(reader)?;
        actions.push(match kind {
            OUTPUT => match body.u32()? {
                PORT_CONTROLLER => return Err(NotOurs::Unknown("output to the controller".to_owned())),
                port => Action::Output(OfPort(port)),
            },
            EXPERIMENTER => read_nicira(&mut body)?,
            other => return Err(NotOurs::Unknown(format!("action {other}"))),
        });
    }
    Ok(())
}

fn read_nicira(body: &mut Reader<'_>) -> Result<Action, NotOurs> {
    let vendor = body.u32()?;
    let subtype = body.u16()?;
    match (vendor, subtype) {
        (NICIRA, NX_RESUBMIT_TABLE) => match body.u16()? {
            RESUBMIT_SAME_PORT => Ok(Action::Resubmit(body.u8()?)),
            port => Err(NotOurs::Unknown(format!("resubmit as if from port {port}"))),
        },
        (NICIRA, NX_CT) => read_ct(body).map(Action::Ct),
        (NICIRA, NX_LEARN) => learn::read(body, false).map(Action::Learn),
        (NICIRA, NX_LEARN2) => learn::read(body, true).map(Action::Learn),
        _ => Err(NotOurs::Unknown(format!("action {subtype} of experimenter {vendor:#x}"))),
    }
}

fn read_ct(body: &mut Reader<'_>) -> Result<Ct, NotOurs> {
    let flags = body.u16()?;
    let zone_field = body.u32()?;
    let zone = body.u16()?;
    let table = body.u8()?;
    body.skip(3)?;
    let helper = body.u16()?;
    if flags & !CT_COMMIT != 0 || zone_field != 0 || helper != 0 {
        return Err(NotOurs::Unknown("ct() with force, a zone from a field, or alg".to_owned()));
    }
    let mut mark = None;
    while !body.is_empty() {
        let (kind, mut inner) = read_header(body)?;
        match kind {
            SET_FIELD if mark.is_none() => match oxm::read_exact(&mut inner)? {
                (Field::CtMark, value) => mark = u32::try_from(value).ok(),
                (field, _) => return Err(NotOurs::Unknown(format!("ct() that sets {field:?}"))),
            },
            other => return Err(NotOurs::Unknown(format!("ct() with action {other} inside"))),
        }
    }
    Ok(Ct { zone, commit: flags & CT_COMMIT != 0, table: (table != CT_NO_TABLE).then_some(table), mark })
}

/// The header that actions and instructions share, and a reader of what it covers.
fn read_header<'a>(reader: &mut Reader<'a>) -> Result<(u16, Reader<'a>), NotOurs> {
    let kind = reader.u16()?;
    let length = usize::from(reader.u16()?);
    match length.checked_sub(4) {
        Some(rest) if length.is_multiple_of(8) && length != 0 => Ok((kind, reader.part(rest)?)),
        _ => Err(reader.malformed("action or instruction has a wrong length").into()),
    }
}
