//! Hashing for strategies: fixed for all time, so that a fleet of edges, and an edge before and after an
//! update, agree on where a key goes. (`std`'s hashers promise nothing of the kind.)
//!
//! The keys are chosen by clients. Nothing is lost by that: a client may direct its own requests to an
//! endpoint of its choice with any of these strategies.

/// FNV-1a (Fowler, Noll, Vo), 64 bits, with a finalizer, since FNV alone spreads its high bits badly.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    mix(fnv)
}

/// The finalizer of MurmurHash3 (Appleby): every bit of the input changes half the bits of the output.
pub(super) fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        // Published test vectors of FNV-1a, and one of the finalizer.
        assert_eq!(hash(b"a"), mix(0xaf63_dc4c_8601_ec8c));
        assert_eq!(hash(b"foobar"), mix(0x8594_4171_f739_67e8));
        assert_eq!(mix(1), 0xb456_bcfc_34c2_cb2c);
    }
}
