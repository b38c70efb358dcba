//! The kernel out of its package: unpacked, so that a guest need not do it.
//!
//! A guest in software emulation unpacks its kernel in a second; after a reset in ten, for it then writes over code that the emulator has translated
//! already, and each write looks for it. QEMU starts an unpacked kernel as it is, by the entry that it has for that (PVH).

/// Where in the setup header: sectors before the kernel proper, and begin and length of what is packed.
const SETUP_SECTORS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// LZ4's legacy frame, as the kernel's build makes it.
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// The note that names the entry: length of name, of value, type, name.
const PVH_NOTES: [[u8; 16]; 2] = [*b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0", *b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0"];

/// The kernel in an image; `None`: it is packed in another way, or cannot be started so. Then the image is what is started.
pub(crate) fn unpacked(image: &[u8]) -> Option<Vec<u8>> {
    let sectors = usize::from(*image.get(SETUP_SECTORS)?);
    let begin = ((sectors + 1) * 512).checked_add(number(image, PAYLOAD_OFFSET)?)?;
    let payload = image.get(begin..begin.checked_add(number(image, PAYLOAD_LENGTH)?)?)?;
    // It ends with how long it is when it is unpacked.
    let (mut rest, length) = payload.strip_prefix(&LZ4_LEGACY)?.split_last_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let mut kernel = Vec::with_capacity(length);
    while !rest.is_empty() {
        let size = number(rest, 0)?;
        block(rest.get(4..size.checked_add(4)?)?, &mut kernel)?;
        rest = &rest[4 + size..];
    }
    let is_elf = kernel.len() == length && kernel.starts_with(b"\x7fELF");
    let has_entry = kernel.windows(16).step_by(4).any(|window| PVH_NOTES.iter().any(|note| window == note));
    (is_elf && has_entry).then_some(kernel)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.first_chunk::<4>().map(|four| u32::from_le_bytes(*four) as usize)
}

/// One block: literals and what is repeated of what came before, in turns.
fn block(mut input: &[u8], output: &mut Vec<u8>) -> Option<()> {
    let begin = output.len();
    loop {
        let (token, rest) = input.split_first()?;
        input = rest;
        let literals = length(usize::from(token >> 4), &mut input)?;
        output.extend_from_slice(input.get(..literals)?);
        input = &input[literals..];
        // The last one has nothing to repeat.
        if input.is_empty() {
            return Some(());
        }
        let (back, rest) = input.split_first_chunk::<2>()?;
        input = rest;
        let back = usize::from(u16::from_le_bytes(*back));
        let count = length(usize::from(token & 15), &mut input)? + 4;
        if back == 0 || back > output.len() - begin {
            return None;
        }
        // What is repeated may reach into itself.
        let from = output.len() - back;
        for at in from..from + count {
            output.push(output[at]);
        }
    }
}

/// A length of 15 goes on with bytes until one is not 255.
fn length(mut length: usize, input: &mut &[u8]) -> Option<usize> {
    if length == 15 {
        loop {
            let (more, rest) = input.split_first()?;
            *input = rest;
            length += usize::from(*more);
            if *more != 255 {
                break;
            }
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with this kernel in it, in one block of literals and one that repeats.
    fn image(kernel: &[u8], zeros: usize) -> Vec<u8> {
        let literals = |bytes: &[u8]| {
            let mut block = vec![0xf0];
            let mut left = bytes.len() - 15;
            while left >= 255 {
                block.push(255);
                left -= 255;
            }
            block.push(left as u8);
            block.extend_from_slice(bytes);
            block
        };
        // One zero, repeated from one byte before; then five literals, as the format asks.
        let count = zeros - 1 - 5 - 4 - 15;
        let mut repeats = vec![0x1f, 0, 1, 0];
        repeats.extend(std::iter::repeat_n(255, count / 255));
        repeats.extend([(count % 255) as u8, 0x50, 0, 0, 0, 0, 0]);
        let mut payload = LZ4_LEGACY.to_vec();
        for block in [literals(kernel), repeats] {
            payload.extend((block.len() as u32).to_le_bytes());
            payload.extend(block);
        }
        payload.extend(((kernel.len() + zeros) as u32).to_le_bytes());
        let mut image = vec![0; 1024 + 16];
        image[SETUP_SECTORS] = 1;
        image[PAYLOAD_OFFSET] = 16;
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend(payload);
        image
    }

    #[test]
    fn a_kernel_is_unpacked_or_left_as_it_is() {
        let mut kernel = b"\x7fELF".to_vec();
        kernel.extend((0..1000u32).flat_map(|number| number.to_le_bytes()));
        assert_eq!(unpacked(&image(&kernel, 4000)), None, "it cannot be started so");
        kernel.extend(PVH_NOTES[0]);
        let whole = image(&kernel, 4000);
        let found = unpacked(&whole).expect("it can be unpacked");
        assert!(found.starts_with(&kernel) && found[kernel.len()..].iter().all(|byte| *byte == 0) && found.len() == kernel.len() + 4000);
        for end in 0..whole.len() {
            assert_eq!(unpacked(&whole[..end]), None, "cut at {end}");
        }
        let other = whole.iter().map(|byte| if *byte == LZ4_LEGACY[3] { 7 } else { *byte }).collect::<Vec<u8>>();
        assert_eq!(unpacked(&other), None, "packed in another way");
    }
}
