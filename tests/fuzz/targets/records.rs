//! Stored records: whatever bytes the store gives back, they are refused, or are a record that is written again as one that
//! reads the same. Decoding takes memory in proportion to the bytes.

#![no_main]

use leasehold_core::orphan::Claims;
use leasehold_fuzz::{Counted, protobuf, within};
use leasehold_store::record::{
    decode_any_entry, decode_entry, decode_event, decode_meta, encode_entry, encode_event, encode_meta,
    identity_of_entry,
};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

#[global_allocator]
static MEMORY: Counted = Counted;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    protobuf::mutate(data, size, max_size, seed)
});

fuzz_target!(|data: &[u8]| {
    let Some((kind, record)) = data.split_first() else { return };
    // Two bytes may be an empty header: two strings of 24 bytes, twice that while a list of them grows, and once more while
    // it is turned into ours.
    let limit = 4096 + 128 * record.len();
    match kind % 3 {
        0 => {
            let Ok((id, entry)) = within(limit, || decode_any_entry(record)) else { return };
            assert_eq!(identity_of_entry(record).as_ref(), Ok(&id));
            assert_eq!(decode_entry(&id, record).as_ref(), Ok(&entry));
            let written = encode_entry(&id, &entry);
            assert_eq!(encode_entry(&id, &entry), written, "written in two ways");
            assert_eq!(decode_any_entry(&written), Ok((id, entry.clone())));
            let _ = Claims::of(&entry);
        }
        1 => {
            let Ok(event) = within(limit, || decode_event(record)) else { return };
            assert_eq!(decode_event(&encode_event(&event)), Ok(event));
        }
        _ => {
            let Ok(meta) = within(limit, || decode_meta(record)) else { return };
            assert_eq!(decode_meta(&encode_meta(&meta)), Ok(meta));
        }
    }
});
