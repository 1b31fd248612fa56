//! In: packed factors of a product in bf16 (`tile_packing.rs`). Out: their products in f32, by the matrix tiles of
//! Intel's processors (AMX): whether this machine has them, the permission to use them, their configuration
//! and the kernel. All code of the tiles that the compiler cannot check is in this file.
//!
//! A tile is 16 rows of 64 bytes: 16 x 32 numbers in bf16, or 16 x 16 sums in f32. Configured tiles belong to
//! one thread, so a [`Session`] configures them, stays on its thread and releases them at its end; between the
//! two no other task may run on that thread (no call of rayon), for that task would release them too early.
//! The instruction rounds to nearest even and takes subnormal numbers for zero; `tiles/model.rs` has the order of
//! its sums.
#![allow(unsafe_code)]

#[cfg(test)]
pub(crate) mod model;
pub(crate) mod support;

use std::marker::PhantomData;
use std::sync::OnceLock;

use self::support::NoTiles;

/// A row of a tile of factors: 32 numbers in bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u16; 32]);

impl Line {
    pub(crate) const ZERO: Self = Self([0; 32]);
}

/// A row of a tile of sums.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct SumLine(pub(crate) [f32; 16]);

/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Lines of the two tiles that one step of one part reads of each factor.
pub(crate) const STEP: usize = 2 * TILE_ROWS;

/// Sums of a block of 32 rows and 32 outputs: [row tile][output tile][row].
pub(crate) type Sums = [SumLine; 4 * TILE_ROWS];

/// Sums before the first product.
pub(crate) const NO_SUMS: Sums = [SumLine([0.0; 16]); 4 * TILE_ROWS];

/// Factors of one block.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    /// Rows in bf16, 32 numbers of their inner length a line.
    pub(crate) high: &'a [Line],
    /// What these leave of them, in bf16, likewise; empty where factors have one part.
    pub(crate) low: &'a [Line],
    /// Where in both the lines of each step begin: 16 of the first row tile, and 16 of the second after them.
    pub(crate) steps: &'a [usize],
    /// [step][part][output tile][pair of the inner length]: 16 outputs of two numbers each.
    pub(crate) weights: &'a [Line],
    /// Whether the second row tile holds any row.
    pub(crate) two_row_tiles: bool,
}

impl Block<'_> {
    /// Parts of each factor.
    fn parts(&self) -> usize {
        if self.low.is_empty() { 1 } else { 2 }
    }

    /// Makes sure that every step lies inside the factors.
    fn check(&self) {
        let rows = if self.two_row_tiles { STEP } else { TILE_ROWS };
        let end = self.steps.iter().max().map_or(0, |first| first.saturating_add(rows));
        assert!(
            end <= self.high.len()
                && (self.low.is_empty() || end <= self.low.len())
                && self.weights.len() == self.parts() * self.steps.len() * STEP,
            "factors of a block do not fit each other"
        );
    }
}

/// What multiplies tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TileKernel {
    /// The processor's tiles.
    Amx(Amx),
    /// The same sums in plain Rust, slowly.
    #[cfg(test)]
    Model,
    /// The model without one of the three products of two parts, for tests that must see that.
    #[cfg(test)]
    Lacking(usize),
}

impl TileKernel {
    /// The processor's tiles, where this machine has them and the system permits them. Asked once.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn of_processor() -> Result<Self, NoTiles> {
        static ANSWER: OnceLock<Result<Amx, NoTiles>> = OnceLock::new();
        (*ANSWER.get_or_init(Amx::ask)).map(Self::Amx)
    }

    /// Configures this thread's tiles.
    pub(crate) fn begin(self) -> Session {
        match self {
            Self::Amx(amx) => amx.configure(),
            #[cfg(test)]
            Self::Model | Self::Lacking(_) => {}
        }
        Session { kernel: self, on_one_thread: PhantomData }
    }
}

/// Configured tiles of this thread, released at its end.
pub(crate) struct Session {
    kernel: TileKernel,
    on_one_thread: PhantomData<*const ()>,
}

impl Session {
    /// Adds to `sums`, step by step, the products of `block`: with two parts, low times high, high times high and
    /// high times low.
    ///
    /// # Panics
    /// Factors that do not hold the steps.
    pub(crate) fn add(&self, block: Block, sums: &mut Sums) {
        match self.kernel {
            TileKernel::Amx(amx) => amx.add(block, sums),
            #[cfg(test)]
            TileKernel::Model => model::add(block, sums, None),
            #[cfg(test)]
            TileKernel::Lacking(product) => model::add(block, sums, Some(product)),
        }
    }

    /// Asks for `lines` to be in the second-level cache soon.
    pub(crate) fn prefetch(&self, lines: &[Line]) {
        match self.kernel {
            TileKernel::Amx(amx) => amx.prefetch(lines),
            #[cfg(test)]
            TileKernel::Model | TileKernel::Lacking(_) => {}
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        match self.kernel {
            TileKernel::Amx(amx) => amx.release(),
            #[cfg(test)]
            TileKernel::Model | TileKernel::Lacking(_) => {}
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use self::amx::Amx;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) use self::no_amx::Amx;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count, _MM_HINT_T1, _mm_prefetch, _xgetbv};

    use super::support::{NoTiles, ProcessorWords, check};
    use super::{Block, Line, Sums};

    /// That this process may use the tiles.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Amx(());

    /// What `ldtilecfg` reads: palette 1, and eight tiles of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Configuration([u8; 64]);

    static CONFIGURATION: Configuration = {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = 64;
            bytes[48 + tile] = 16;
            tile += 1;
        }
        Configuration(bytes)
    };

    /// Bytes from one row of a tile to the next.
    const ROW: usize = size_of::<Line>();

    impl Amx {
        /// The tiles of this processor, after the system has been asked for them.
        ///
        /// # Errors
        /// There are none, or the system withholds them.
        pub(crate) fn ask() -> Result<Self, NoTiles> {
            check(words(), permission).map(|()| Self(()))
        }

        pub(crate) fn configure(self) {
            // SAFETY: the processor has the instruction, and it reads the 64 bytes of a valid configuration.
            unsafe {
                asm!(
                    "ldtilecfg [{0}]",
                    in(reg) &CONFIGURATION,
                    options(nostack, readonly, preserves_flags)
                );
            }
        }

        pub(crate) fn release(self) {
            // SAFETY: the processor has the instruction; it touches nothing but the tiles, which are this
            // module's alone.
            unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
        }

        pub(crate) fn prefetch(self, lines: &[Line]) {
            for line in lines {
                // SAFETY: every x86-64 processor has the instruction, and it faults at no address.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(line).cast()) };
            }
        }

        pub(crate) fn add(self, block: Block, sums: &mut Sums) {
            block.check();
            if block.steps.is_empty() {
                return;
            }
            // SAFETY: the tiles are configured, for only a `Session` calls this. `Block::check` has made sure of what
            // the kernels read: for each step 16 lines of 64 bytes, or twice 16, of both parts of the rows, and 32 lines
            // of each part of the weights. They write the 4 x 1024 bytes of `sums`.
            unsafe {
                match (block.parts(), block.two_row_tiles) {
                    (1, true) => one_part(block, sums),
                    (1, false) => one_part_of_16_rows(block, sums),
                    (_, true) => two_parts(block, sums),
                    (_, false) => two_parts_of_16_rows(block, sums),
                }
            }
        }
    }

    /// # Safety
    /// Tiles are configured; `block` is checked, of one part, and has a step.
    unsafe fn one_part(block: Block, sums: &mut Sums) {
        // SAFETY: as demanded above.
        unsafe {
            asm!(
                "tileloadd tmm0, [{sums} + {row}]",
                "tileloadd tmm1, [{sums} + {row} + 1024]",
                "tileloadd tmm2, [{sums} + {row} + 2048]",
                "tileloadd tmm3, [{sums} + {row} + 3072]",
                "2:",
                "mov {at}, [{steps}]",
                "shl {at}, 6",
                "add {at}, {high}",
                "tileloadd tmm6, [{weights} + {row}]",
                "tileloadd tmm4, [{at} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{weights} + {row} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{at} + {row} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {weights}, 2048",
                "add {steps}, 8",
                "dec {count}",
                "jnz 2b",
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + 1024], tmm1",
                "tilestored [{sums} + {row} + 2048], tmm2",
                "tilestored [{sums} + {row} + 3072], tmm3",
                sums = in(reg) sums.as_mut_ptr(),
                row = in(reg) ROW,
                high = in(reg) block.high.as_ptr(),
                at = out(reg) _,
                weights = inout(reg) block.weights.as_ptr() => _,
                steps = inout(reg) block.steps.as_ptr() => _,
                count = inout(reg) block.steps.len() => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }

    /// # Safety
    /// As [`one_part`], with one row tile.
    unsafe fn one_part_of_16_rows(block: Block, sums: &mut Sums) {
        // SAFETY: as demanded above.
        unsafe {
            asm!(
                "tileloadd tmm0, [{sums} + {row}]",
                "tileloadd tmm1, [{sums} + {row} + 1024]",
                "2:",
                "mov {at}, [{steps}]",
                "shl {at}, 6",
                "add {at}, {high}",
                "tileloadd tmm6, [{weights} + {row}]",
                "tileloadd tmm4, [{at} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{weights} + {row} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {weights}, 2048",
                "add {steps}, 8",
                "dec {count}",
                "jnz 2b",
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + 1024], tmm1",
                sums = in(reg) sums.as_mut_ptr(),
                row = in(reg) ROW,
                high = in(reg) block.high.as_ptr(),
                at = out(reg) _,
                weights = inout(reg) block.weights.as_ptr() => _,
                steps = inout(reg) block.steps.as_ptr() => _,
                count = inout(reg) block.steps.len() => _,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }

    /// # Safety
    /// As [`one_part`], but of two parts.
    unsafe fn two_parts(block: Block, sums: &mut Sums) {
        // SAFETY: as demanded above.
        unsafe {
            asm!(
                "tileloadd tmm0, [{sums} + {row}]",
                "tileloadd tmm1, [{sums} + {row} + 1024]",
                "tileloadd tmm2, [{sums} + {row} + 2048]",
                "tileloadd tmm3, [{sums} + {row} + 3072]",
                "2:",
                "mov {at}, [{steps}]",
                "shl {at}, 6",
                "lea {from_low}, [{low} + {at}]",
                "add {at}, {high}",
                "tileloadd tmm4, [{from_low} + {row}]",
                "tileloadd tmm6, [{weights} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{weights} + {row} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{from_low} + {row} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm4, [{at} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{at} + {row} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm6, [{weights} + {row} + 2048]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{weights} + {row} + 3072]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {weights}, 4096",
                "add {steps}, 8",
                "dec {count}",
                "jnz 2b",
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + 1024], tmm1",
                "tilestored [{sums} + {row} + 2048], tmm2",
                "tilestored [{sums} + {row} + 3072], tmm3",
                sums = in(reg) sums.as_mut_ptr(),
                row = in(reg) ROW,
                high = in(reg) block.high.as_ptr(),
                low = in(reg) block.low.as_ptr(),
                from_low = out(reg) _,
                at = out(reg) _,
                weights = inout(reg) block.weights.as_ptr() => _,
                steps = inout(reg) block.steps.as_ptr() => _,
                count = inout(reg) block.steps.len() => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }

    /// # Safety
    /// As [`two_parts`], with one row tile.
    unsafe fn two_parts_of_16_rows(block: Block, sums: &mut Sums) {
        // SAFETY: as demanded above.
        unsafe {
            asm!(
                "tileloadd tmm0, [{sums} + {row}]",
                "tileloadd tmm1, [{sums} + {row} + 1024]",
                "2:",
                "mov {at}, [{steps}]",
                "shl {at}, 6",
                "lea {from_low}, [{low} + {at}]",
                "add {at}, {high}",
                "tileloadd tmm4, [{from_low} + {row}]",
                "tileloadd tmm6, [{weights} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{weights} + {row} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm4, [{at} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm6, [{weights} + {row} + 2048]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{weights} + {row} + 3072]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {weights}, 4096",
                "add {steps}, 8",
                "dec {count}",
                "jnz 2b",
                "tilestored [{sums} + {row}], tmm0",
                "tilestored [{sums} + {row} + 1024], tmm1",
                sums = in(reg) sums.as_mut_ptr(),
                row = in(reg) ROW,
                high = in(reg) block.high.as_ptr(),
                low = in(reg) block.low.as_ptr(),
                from_low = out(reg) _,
                at = out(reg) _,
                weights = inout(reg) block.weights.as_ptr() => _,
                steps = inout(reg) block.steps.as_ptr() => _,
                count = inout(reg) block.steps.len() => _,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }

    /// What this processor says of itself.
    fn words() -> ProcessorWords {
        let last_leaf = __cpuid(0).eax;
        let mut words = ProcessorWords { last_leaf, ..ProcessorWords::default() };
        if words.last_leaf < 0x1d {
            return words;
        }
        words.leaf_1_ecx = __cpuid(1).ecx;
        words.leaf_7_edx = __cpuid_count(7, 0).edx;
        if words.saves_by_xsave() {
            // SAFETY: the system has enabled XGETBV (OSXSAVE), and register 0 exists with it.
            words.xcr0 = unsafe { xcr0() };
        }
        let palette = __cpuid_count(0x1d, 1);
        words.palette_1 = [palette.eax, palette.ebx, palette.ecx];
        words
    }

    /// # Safety
    /// The processor has XSAVE, and the system has enabled it.
    #[target_feature(enable = "xsave")]
    unsafe fn xcr0() -> u64 {
        // SAFETY: as demanded above.
        unsafe { _xgetbv(0) }
    }

    /// Asks the system for the state of the tiles' data, for the whole process.
    ///
    /// # Errors
    /// The system's error number.
    fn permission() -> Result<(), i32> {
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const TILE_DATA: libc::c_long = 18;
        // SAFETY: this request reads two numbers and writes no memory of ours.
        let answer = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) };
        if answer == 0 {
            return Ok(());
        }
        Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod no_amx {
    use super::support::NoTiles;
    use super::{Block, Line, Sums};

    /// There are no tiles here.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Amx {}

    impl Amx {
        pub(crate) fn ask() -> Result<Self, NoTiles> {
            Err(NoTiles::OtherSystem)
        }

        pub(crate) fn configure(self) {
            match self {}
        }

        pub(crate) fn release(self) {
            match self {}
        }

        pub(crate) fn prefetch(self, _: &[Line]) {
            match self {}
        }

        pub(crate) fn add(self, _: Block, _: &mut Sums) {
            match self {}
        }
    }
}
