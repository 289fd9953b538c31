//! The frames of a capture file: pcap or pcapng.

use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

use crate::error::Error;

/// How a pcapng file starts: the type of its section header block.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Reads every frame of a capture of Ethernet frames, whole or as far as it was captured.
pub fn read_frames(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    if bytes.starts_with(&PCAPNG) { read_pcapng(bytes) } else { read_pcap(bytes) }
}

fn read_pcap(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let mut reader = PcapReader::new(bytes).map_err(|error| broken(0, error))?;
    check_link(reader.header().datalink, 0)?;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(|error| broken(frames.len(), error))?;
        frames.push(packet.data.into_owned());
    }
    Ok(frames)
}

fn read_pcapng(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let mut reader = PcapNgReader::new(bytes).map_err(|error| broken(0, error))?;
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.map_err(|error| broken(frames.len(), error))? {
            Block::InterfaceDescription(interface) => check_link(interface.linktype, frames.len())?,
            Block::EnhancedPacket(packet) => frames.push(packet.data.into_owned()),
            Block::SimplePacket(packet) => frames.push(packet.data.into_owned()),
            _ => {}
        }
    }
    Ok(frames)
}

fn check_link(link: DataLink, read: usize) -> Result<(), Error> {
    match link {
        DataLink::ETHERNET => Ok(()),
        other => Err(broken(read, format_args!("its link type is {other:?}, not Ethernet"))),
    }
}

fn broken(read: usize, reason: impl std::fmt::Display) -> Error {
    Error::Capture { packet: read + 1, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
    use pcap_file::pcapng::PcapNgWriter;
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
    use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
    use proptest::prelude::*;

    use super::*;

    fn pcap(frames: &[Vec<u8>], datalink: DataLink) -> Vec<u8> {
        let mut writer =
            PcapWriter::with_header(Vec::new(), PcapHeader { datalink, ..PcapHeader::default() }).unwrap();
        for frame in frames {
            writer.write_packet(&PcapPacket::new(Duration::ZERO, frame.len() as u32, frame)).unwrap();
        }
        writer.into_writer()
    }

    #[test]
    fn frames_of_both_formats_are_read() {
        let frames = vec![vec![1; 60], vec![2; 14]];
        assert_eq!(read_frames(&pcap(&frames, DataLink::ETHERNET)), Ok(frames.clone()));
        let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
        let interface =
            InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 0, options: vec![] };
        writer.write_pcapng_block(interface).unwrap();
        for frame in &frames {
            let packet = EnhancedPacketBlock {
                original_len: frame.len() as u32,
                data: frame.into(),
                interface_id: 0,
                timestamp: Duration::ZERO,
                options: vec![],
            };
            writer.write_pcapng_block(packet).unwrap();
        }
        assert_eq!(read_frames(&writer.into_inner()), Ok(frames));
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        let frames = vec![vec![1; 60], vec![2; 60]];
        let whole = pcap(&frames, DataLink::ETHERNET);
        let refused = |bytes: &[u8]| read_frames(bytes).unwrap_err().to_string();
        assert!(refused(b"").contains("give a pcap or pcapng file"));
        assert!(refused(&whole[..whole.len() - 1]).contains("at packet 2"));
        assert!(refused(&pcap(&frames, DataLink::RAW)).contains("not Ethernet"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300), ng: bool) {
            let start: &[u8] = if ng { &PCAPNG } else { &[0xd4, 0xc3, 0xb2, 0xa1] };
            let _ = read_frames(&[start, &bytes].concat());
        }
    }
}
