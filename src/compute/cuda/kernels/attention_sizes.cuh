// What both attention kernels are told. Strides count numbers, not bytes; a head's numbers lie side by
// side in a row, head after head.
#pragma once

struct AttentionSizes {
    long long query_entry, query_row;
    long long key_entry, key_row;
    long long value_entry, value_row;
    // Zero where the bias is the same for all.
    long long bias_entry, bias_head, bias_row, bias_key;
    unsigned queries, keys, heads;
    unsigned head;  // numbers of a head
    float scale;    // of the scores, positive, times log2(e)
    unsigned causal; // 1: a query sees the keys up to its own position
};

#define LOG2E 1.44269504088896341f
