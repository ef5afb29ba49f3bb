//! Frames: what one side says at a time.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use crate::vault::VaultId;

/// The longest frame, type and body.
const FRAME_MAX: usize = 4096;

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Type {
    Hello = 1,
    Ok = 2,
    No = 3,
    AskKey = 4,
    Key = 5,
    Status = 6,
    Lock = 7,
}

impl Type {
    const ALL: [Self; 7] =
        [Self::Hello, Self::Ok, Self::No, Self::AskKey, Self::Key, Self::Status, Self::Lock];
}

/// A frame as it was received.
pub(super) struct Frame {
    pub(super) kind: Type,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Frame {
    /// Reads one frame; `None` at the end of the stream.
    pub(super) fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut len = [0; 4];
        match stream.read_exact(&mut len) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let len = u32::from_be_bytes(len) as usize;
        if len == 0 || len > FRAME_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of impossible length"));
        }
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        let kind = Type::ALL.into_iter().find(|known| *known as u8 == kind[0]);
        let kind =
            kind.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a frame of unknown type"))?;
        let mut body = Zeroizing::new(vec![0; len - 1]);
        stream.read_exact(&mut body)?;
        Ok(Some(Self { kind, body }))
    }
}

/// Writes one frame in one piece.
pub(super) fn write(stream: &mut impl Write, kind: Type, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len() + 1).expect("frames of ours have at most 37 bytes");
    let mut frame = Zeroizing::new(Vec::with_capacity(body.len() + 5));
    frame.extend_from_slice(&len.to_be_bytes());
    frame.push(kind as u8);
    frame.extend_from_slice(body);
    stream.write_all(&frame)
}

/// The body of HELLO.
pub(super) fn hello(protocol: u16, vault_id: VaultId) -> Vec<u8> {
    [protocol.to_be_bytes().as_slice(), &vault_id.0].concat()
}

/// Reads the body of HELLO.
pub(super) fn parse_hello(body: &[u8]) -> Option<(u16, VaultId)> {
    let (protocol, id) = body.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*protocol), VaultId(id.try_into().ok()?)))
}
