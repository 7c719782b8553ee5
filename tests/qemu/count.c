// A plugin for QEMU (version 1 of its plugin interface, QEMU 7.2 and later): counts the instructions that
// a guest executes, and says which blocks of its code they are in. Time that a processor sleeps costs
// nothing.
//
// The guest marks what is to be counted by an instruction that does nothing but carry a number: the NOP
// 0f 1f 84 00 and MARK_BEGIN or MARK_END. From begin to end is a region; several add up. With `from`, the
// first region begins where the code at an address is entered for the first time: a kernel's entry.
//
//   -plugin count.so,out=FILE[,from=ADDRESS]
//
// FILE, written as it comes and at the end of the run:
//   region INSTRUCTIONS                  one line for each, at its end
//   block ADDRESS INSTRUCTIONS COUNT     a block of code of so many instructions, and how often it was
//                                        entered within regions
//
// One guest processor, or -icount: the counters are shared.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK_BEGIN 0x4D524B31u
#define MARK_END 0x4D524B32u

// What is used of the interface, as its documentation has it.
typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
typedef void (*qemu_plugin_udata_cb_t)(qemu_plugin_id_t Id, void *Context);
typedef void (*qemu_plugin_vcpu_udata_cb_t)(unsigned Processor, void *Context);
typedef void (*qemu_plugin_vcpu_tb_trans_cb_t)(qemu_plugin_id_t Id, struct qemu_plugin_tb *Block);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t Id, qemu_plugin_vcpu_tb_trans_cb_t);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *Block, qemu_plugin_vcpu_udata_cb_t,
                                          enum qemu_plugin_cb_flags, void *Context);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *Instruction,
                                            qemu_plugin_vcpu_udata_cb_t, enum qemu_plugin_cb_flags,
                                            void *Context);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *Block);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *Block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *Block, size_t Index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *Instruction);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *Instruction);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t Id, qemu_plugin_udata_cb_t, void *Context);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(qemu_plugin_id_t Id, const qemu_info_t *Info, int Count,
                               char **Arguments);

// A block of code; the same code may be translated anew, and is the same block then.
typedef struct BLOCK {
    struct BLOCK *Next; // in its list of the table
    uint64_t Address;
    uint64_t InstructionCount;
    uint64_t EnteredCount; // within regions
} BLOCK;

#define TABLE_BITS 16
static BLOCK *Table[1 << TABLE_BITS];
static uint64_t RegionCount; // instructions since the region began
static int InRegion;
static uint64_t FromAddress; // 0: none, or entered
static FILE *Output;

static BLOCK *FindBlock(uint64_t Address, uint64_t InstructionCount)
{
    const uint64_t Hash = (Address * 0x9E3779B97F4A7C15u) ^ InstructionCount;
    BLOCK **const List = &Table[Hash >> (64 - TABLE_BITS)];
    for (BLOCK *Block = *List; Block; Block = Block->Next) {
        if (Block->Address == Address && Block->InstructionCount == InstructionCount) {
            return Block;
        }
    }
    BLOCK *const Block = calloc(1, sizeof(*Block));
    if (!Block) {
        abort();
    }
    Block->Address = Address;
    Block->InstructionCount = InstructionCount;
    Block->Next = *List;
    *List = Block;
    return Block;
}

static void EnterBlock(unsigned Processor, void *Context)
{
    BLOCK *const Block = Context;
    (void)Processor;
    if (InRegion) {
        Block->EnteredCount += 1;
        RegionCount += Block->InstructionCount;
    }
}

static void BeginRegion(unsigned Processor, void *Context)
{
    (void)Processor;
    (void)Context;
    RegionCount = 0;
    InRegion = 1;
}

static void EndRegion(unsigned Processor, void *Context)
{
    (void)Processor;
    (void)Context;
    if (InRegion) {
        InRegion = 0;
        fprintf(Output, "region %lu\n", RegionCount);
        fflush(Output);
    }
}

// The number that a marking NOP carries, or 0.
static uint32_t MarkOf(const struct qemu_plugin_insn *Instruction)
{
    static const uint8_t Head[4] = {0x0F, 0x1F, 0x84, 0x00};
    const uint8_t *const Bytes = qemu_plugin_insn_data(Instruction);
    uint32_t Number = 0;
    if (qemu_plugin_insn_size(Instruction) == 8 && memcmp(Bytes, Head, sizeof(Head)) == 0) {
        memcpy(&Number, Bytes + sizeof(Head), sizeof(Number));
    }
    return Number;
}

static void TranslateBlock(qemu_plugin_id_t Id, struct qemu_plugin_tb *Block)
{
    const size_t Count = qemu_plugin_tb_n_insns(Block);
    (void)Id;
    if (FromAddress != 0 && qemu_plugin_tb_vaddr(Block) == FromAddress) {
        FromAddress = 0; // what is translated is executed next
        BeginRegion(0, NULL);
    }
    qemu_plugin_register_vcpu_tb_exec_cb(Block, EnterBlock, QEMU_PLUGIN_CB_NO_REGS,
                                         FindBlock(qemu_plugin_tb_vaddr(Block), Count));
    for (size_t Index = 0; Index < Count; Index += 1) {
        struct qemu_plugin_insn *const Instruction = qemu_plugin_tb_get_insn(Block, Index);
        const uint32_t Mark = MarkOf(Instruction);
        if (Mark == MARK_BEGIN || Mark == MARK_END) {
            qemu_plugin_register_vcpu_insn_exec_cb(Instruction,
                                                   Mark == MARK_BEGIN ? BeginRegion : EndRegion,
                                                   QEMU_PLUGIN_CB_NO_REGS, NULL);
        }
    }
}

static void PrintBlocks(qemu_plugin_id_t Id, void *Context)
{
    (void)Id;
    (void)Context;
    for (size_t Index = 0; Index < sizeof(Table) / sizeof(Table[0]); Index += 1) {
        for (const BLOCK *Block = Table[Index]; Block; Block = Block->Next) {
            if (Block->EnteredCount != 0) {
                fprintf(Output, "block %lx %lu %lu\n", Block->Address, Block->InstructionCount,
                        Block->EnteredCount);
            }
        }
    }
    fclose(Output);
}

int qemu_plugin_install(qemu_plugin_id_t Id, const qemu_info_t *Info, int Count, char **Arguments)
{
    (void)Info;
    for (int Index = 0; Index < Count; Index += 1) {
        const char *const Argument = Arguments[Index];
        if (strncmp(Argument, "out=", 4) == 0) {
            Output = fopen(Argument + 4, "w");
        } else if (strncmp(Argument, "from=", 5) == 0) {
            FromAddress = strtoull(Argument + 5, NULL, 0);
        }
    }
    if (!Output) {
        fprintf(stderr, "count: say out=FILE, a file that can be written\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(Id, TranslateBlock);
    qemu_plugin_register_atexit_cb(Id, PrintBlocks, NULL);
    return 0;
}
