//! In: what a processor and a system say of themselves. Out: whether the matrix tiles (AMX) can be used, or why not.

use thiserror::Error;

/// Why this process cannot use the tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum NoTiles {
    /// AMX is Intel's, and how to ask for it is Linux's.
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    #[error("matrix tiles (AMX) are used on x86-64 Linux alone")]
    OtherSystem,
    /// A processor before Sapphire Rapids, or another maker's.
    #[error("this processor has no matrix tiles for bf16 (AMX)")]
    NotInProcessor,
    /// The system, or the virtual machine, does not save the tiles' state.
    #[error("the operating system has not enabled the processor's matrix tiles (AMX)")]
    NotEnabled,
    /// Tiles of other sizes than the kernel's.
    #[error(
        "the processor's matrix tiles (AMX) have other sizes than 8 tiles of 16 rows of 64 bytes"
    )]
    OtherSizes,
    /// An old kernel, a filter of system calls, a thread with a small signal stack.
    #[error("the operating system refused the use of matrix tiles (AMX), error {0}")]
    Refused(i32),
}

/// The words that [`check`] reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessorWords {
    /// CPUID leaf 0, EAX: the last leaf.
    pub(crate) last_leaf: u32,
    /// CPUID leaf 1, ECX.
    pub(crate) leaf_1_ecx: u32,
    /// CPUID leaf 7.0, EDX.
    pub(crate) leaf_7_edx: u32,
    /// CPUID leaf 1Dh.1: EAX, EBX, ECX.
    pub(crate) palette_1: [u32; 3],
    /// What the system saves at a switch of tasks.
    pub(crate) xcr0: u64,
}

impl ProcessorWords {
    /// Whether XCR0 can be read (OSXSAVE).
    pub(crate) fn saves_by_xsave(&self) -> bool {
        self.leaf_1_ecx >> 27 & 1 == 1
    }
}

/// Whether the tiles can be used; `permission` asks the system for them, once all else is there.
///
/// # Errors
/// Why not.
pub(crate) fn check(
    words: ProcessorWords,
    permission: impl FnOnce() -> Result<(), i32>,
) -> Result<(), NoTiles> {
    const LEAF_OF_TILES: u32 = 0x1d;
    const TILES_AND_BF16: u32 = 1 << 24 | 1 << 22;
    const CONFIGURATION_AND_DATA: u64 = 1 << 17 | 1 << 18;
    if words.last_leaf < LEAF_OF_TILES || words.leaf_7_edx & TILES_AND_BF16 != TILES_AND_BF16 {
        return Err(NoTiles::NotInProcessor);
    }
    if !words.saves_by_xsave() || words.xcr0 & CONFIGURATION_AND_DATA != CONFIGURATION_AND_DATA {
        return Err(NoTiles::NotEnabled);
    }
    let [bytes, row_and_count, rows] = words.palette_1;
    let sizes =
        [bytes & 0xffff, bytes >> 16, row_and_count & 0xffff, row_and_count >> 16, rows & 0xffff];
    if sizes != [8192, 1024, 64, 8, 16] {
        return Err(NoTiles::OtherSizes);
    }
    permission().map_err(NoTiles::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of a Xeon since Sapphire Rapids.
    fn xeon() -> ProcessorWords {
        ProcessorWords {
            last_leaf: 0x20,
            leaf_1_ecx: 1 << 27,
            leaf_7_edx: 1 << 24 | 1 << 22 | 1 << 25,
            palette_1: [0x0400_2000, 0x0008_0040, 16],
            xcr0: 0x6_00e7,
        }
    }

    #[test]
    fn a_processor_with_tiles_is_asked_for_them_once() {
        let mut asked = 0;
        let answer = check(xeon(), || {
            asked += 1;
            Ok(())
        });
        assert_eq!((answer, asked), (Ok(()), 1));
        assert_eq!(check(xeon(), || Err(28)), Err(NoTiles::Refused(28)));
        assert!(
            NoTiles::Refused(28).to_string().contains("refused")
                && NoTiles::Refused(28).to_string().ends_with("28")
        );
    }

    #[test]
    fn what_is_missing_is_named_and_nobody_is_asked() {
        type Change = fn(&mut ProcessorWords);
        let cases: [(Change, NoTiles); 8] = [
            (|words| words.last_leaf = 0x1c, NoTiles::NotInProcessor),
            (|words| words.leaf_7_edx &= !(1 << 24), NoTiles::NotInProcessor),
            (|words| words.leaf_7_edx &= !(1 << 22), NoTiles::NotInProcessor),
            (|words| words.leaf_1_ecx = 0, NoTiles::NotEnabled),
            (|words| words.xcr0 &= !(1 << 17), NoTiles::NotEnabled),
            (|words| words.xcr0 &= !(1 << 18), NoTiles::NotEnabled),
            (|words| words.palette_1[0] = 0, NoTiles::OtherSizes),
            (|words| words.palette_1[2] = 8, NoTiles::OtherSizes),
        ];
        for (change, due) in cases {
            let mut words = xeon();
            change(&mut words);
            assert_eq!(check(words, || panic!("{due} was asked for")), Err(due));
        }
    }

    /// The words of this machine, whatever it is, are read without a fault, and the answer stays.
    #[test]
    fn this_machine_answers_the_same_twice() {
        let answer = || super::super::TileKernel::of_processor();
        assert_eq!(answer(), answer());
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        assert_eq!(answer(), Err(NoTiles::OtherSystem));
    }
}
