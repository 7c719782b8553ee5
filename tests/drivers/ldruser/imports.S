// Imports from ldrlib.sys, as an import library would have them. Upper and lower case of a module's
// name are the same.
    .section .idata$2, "aw"
    .rva names
    .long 0
    .long 0
    .rva module
    .rva addresses

    .section .idata$4, "aw"
names:
    .rva name_add
    .long 0
    .rva name_answer
    .long 0
    .rva name_lower
    .long 0
    .rva name_sum
    .long 0
    .quad 0

    .section .idata$5, "aw"
addresses:
    .globl __imp_LdrLibAdd, __imp_LdrLibAnswer, __imp_LdrLibLower, __imp_LdrLibSum
__imp_LdrLibAdd:
    .rva name_add
    .long 0
__imp_LdrLibAnswer:
    .rva name_answer
    .long 0
__imp_LdrLibLower:
    .rva name_lower
    .long 0
__imp_LdrLibSum:
    .rva name_sum
    .long 0
    .quad 0

    .section .idata$6, "aw"
name_add:
    .short 77 // no hint is right
    .asciz "LdrLibAdd"
    .balign 2
name_answer:
    .short 0
    .asciz "LdrLibAnswer"
    .balign 2
name_lower:
    .short 0
    .asciz "LdrLibLower"
    .balign 2
name_sum:
    .short 0
    .asciz "LdrLibSum"
    .balign 2

    .section .idata$7, "aw"
module:
    .asciz "LDRLIB.sys"
