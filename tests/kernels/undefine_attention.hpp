// In: the macros of an attention kernel. Out: none, so that the file can be read again for another size.
#undef HEAD
#undef SLICES
#undef M_TILES
#undef KEYS
#undef PADDED
#undef STRIDE
#undef WARPS
#undef THREADS
#undef KEY_TILES
#undef VALUE_TILES
#undef HELD
#undef ATTENTION
#undef ROWS
#undef DEPTH
#undef STEP
