/* In: a list of `entry NAME` lines, included below. Out: those functions, each of which jumps through a slot. A
   slot starts at its function's slow path, which asks find_function (load_on_first_use.c) for the address in the
   real library, writes it into the slot and goes on there. All argument registers are kept, so the functions'
   types need not be known. x86-64, System V. */

.macro entry name
    .section .text.\name, "ax", @progbits
    .globl \name
    .type \name, @function
\name:
    jmp *.Lslot_\name(%rip)
.Lfirst_\name:
    leaq .Lslot_\name(%rip), %r11
    leaq .Lname_\name(%rip), %r10
    jmp first_use
    .size \name, . - \name
    .section .data.\name, "aw", @progbits
    .balign 8
.Lslot_\name:
    .quad .Lfirst_\name
    .section .rodata.\name, "a", @progbits
.Lname_\name:
    .string "\name"
.endm

#include ENTRIES

    .text
    .type first_use, @function
first_use:
    pushq %rbp
    movq %rsp, %rbp
    .irp register, rdi, rsi, rdx, rcx, r8, r9, rax, r11
    pushq %\register
    .endr
    subq $128, %rsp
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7
    movdqu %xmm\number, 16 * \number(%rsp)
    .endr
    movq %r10, %rdi
    call FIND_FUNCTION
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7
    movdqu 16 * \number(%rsp), %xmm\number
    .endr
    addq $128, %rsp
    popq %r11
    movq %rax, (%r11)
    movq %rax, %r10
    .irp register, rax, r9, r8, rcx, rdx, rsi, rdi, rbp
    popq %\register
    .endr
    jmp *%r10
    .size first_use, . - first_use

    .section .note.GNU-stack, "", @progbits
