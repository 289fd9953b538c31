//! The frames to explain, from the command line, files and standard input.

use std::io::Read;
use std::path::Path;

use demux::capture::read_frames;
use demux::decide::Ingress;
use demux::frame::Frame;
use demux::mac::Mac;

use super::args::Input;
use super::error::ExplainError;

/// Reads the frames. A described packet gets its MACs from its ingress and the shared MAC, unless they are given.
pub(super) fn frames(input: &Input, ingress: Ingress, shared: Mac) -> Result<Vec<Frame>, ExplainError> {
    match input {
        Input::Packet(packet) => Ok(vec![packet.frame(ingress, shared)]),
        Input::Hex(digits) if digits == "-" => {
            let text = read(Path::new("-"), "give the digits on the command line")?;
            Ok(vec![parse_hex(&String::from_utf8_lossy(&text))?])
        }
        Input::Hex(digits) => Ok(vec![parse_hex(digits)?]),
        Input::Capture(file) => {
            let bytes = read(file, "--pcap takes a capture file, or - for standard input")?;
            Ok(read_frames(&bytes)?.iter().map(|bytes| Frame::parse(bytes)).collect())
        }
    }
}

/// The whole of a file; `-` is standard input.
pub(super) fn read(path: &Path, remedy: &'static str) -> Result<Vec<u8>, ExplainError> {
    let mut bytes = Vec::new();
    let outcome = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(path).map(|whole| bytes = whole)
    };
    outcome.map_err(|error| ExplainError::Read { path: path.to_owned(), error, remedy })?;
    Ok(bytes)
}

fn parse_hex(text: &str) -> Result<Frame, ExplainError> {
    let bad =
        |what: String| ExplainError::refused(what, "give two hexadecimal digits for each byte of one frame");
    let mut digits = Vec::new();
    for line in text.lines() {
        for digit in without_offset(line).chars() {
            match digit.to_digit(16) {
                Some(value) => digits.push(value as u8),
                None if digit.is_whitespace() || matches!(digit, ':' | '-' | '.') => {}
                None => return Err(bad(format!("'{}' is not a hexadecimal digit", digit.escape_debug()))),
            }
        }
    }
    if !digits.len().is_multiple_of(2) {
        return Err(bad(format!("{} hexadecimal digits are not whole bytes", digits.len())));
    }
    let bytes: Vec<u8> =
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    if bytes.len() < ETHERNET_HEADER {
        return Err(bad(format!("{} bytes are not a frame: the Ethernet header has 14", bytes.len())));
    }
    Ok(Frame::parse(&bytes))
}

const ETHERNET_HEADER: usize = 14;

/// A line of digits without the offset of tcpdump -xx (`0x0010:`) or a plain `0x`.
fn without_offset(line: &str) -> &str {
    let line = line.trim();
    let Some(rest) = line.strip_prefix("0x") else { return line };
    match rest.split_once(':') {
        Some((offset, bytes)) if offset.len() >= 4 && bytes.starts_with(char::is_whitespace) => bytes,
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: &str = "0a0000000001 020000000001 0800 4500002800010000400600 00cb00710aac12000b\
                       9c407580 00000000 00000000 5002 ffff 0000 0000";

    #[test]
    fn digits_are_read_in_every_usual_form() {
        let frame = parse_hex(SYN).unwrap();
        assert_eq!(frame.tuple().unwrap().destination_port, 30080);
        let plain: String = SYN.split_whitespace().collect();
        let pairs: Vec<String> =
            plain.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into()).collect();
        let dump: String = pairs
            .chunks(16)
            .enumerate()
            .map(|(row, bytes)| format!("\t0x{:04x}:  {}\n", row * 16, bytes.join("")))
            .collect();
        for text in [plain.clone(), format!("0x{plain}"), pairs.join(":"), dump] {
            assert_eq!(parse_hex(&text).unwrap(), frame, "{text}");
        }
    }

    #[test]
    fn an_invalid_frame_is_refused_in_one_line() {
        for (text, expected) in
            [("", "0 bytes are not a frame"), ("0a0", "3 hexadecimal digits"), ("zz", "'z' is not")]
        {
            let error = parse_hex(text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
        let error = read(Path::new("/nonexistent/x"), "another").unwrap_err().to_string();
        assert!(error.contains("/nonexistent/x") && error.contains("(another)"), "{error}");
    }
}
