// SPDX-License-Identifier: GPL-2.0
// A module for Linux that does the work of this project's benchmarks and prints what it costs, in the
// same words, so that both kernels can be compared. Written for this project. It uses functions that Linux
// gives to modules under the GPL only, so this file is under the GPL, version 2, unlike the rest of the
// project, and is linked with nothing of it.
//
// /proc/peer takes orders, one per write:
//   count NAME   instructions of an operation, under -icount, where a tick is one:  # bench NAME VALUE
//   rate NAME    operations for a second:                               # rate NAME OPERATIONS TICKS
//   started      the drivers are: says so to QEMU's plugin, and says the time:   # boot NANOSECONDS
//
// What is counted is what tests/kernel/bench*.c counts: an operation's own instructions, and those of
// whatever interrupts the wait for its end; never the waiting, which is a loop whose turns are known.
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/etherdevice.h>
#include <linux/io.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/proc_fs.h>
#include <linux/rtnetlink.h>
#include <linux/sort.h>
#include <linux/vmalloc.h>
#include <asm/tsc.h>

#define WARM_UP_ROUNDS 8
#define ROUND_COUNT 65
#define RATE_MILLISECONDS 1000

// See tests/qemu/count.c.
#define MARK_END 0x4D524B32
#define MARK(Number) asm volatile("nopl %c0(%%rax,%%rax,1)" : : "i"(Number) : "memory")

struct row {
    const char *Name;
    int (*Prepare)(const struct row *Row); // 0, or an error
    u64 (*Round)(const struct row *Row);   // one round; returns the ticks that it kept us busy
    u64 (*Run)(const struct row *Row);     // operations for a second; returns how many
    void (*CleanUp)(void);
    u32 UnitCount; // operations in a round
    u64 Size;      // bytes or pages
    u32 Depth;
    bool IsPolled;
    bool IsUsed; // each page is written to before it is unmapped
};

static u64 Overhead;     // of reading the ticks
static u64 SendingRound; // ticks of a round of net-send-64, once known
static u64 RunTicks;

static __always_inline u64 ReadTicks(void)
{
    u32 Low, High;

    asm volatile("lfence; rdtsc" : "=a"(Low), "=d"(High) : : "memory");
    return (u64)High << 32 | Low;
}

static int CompareTicks(const void *A, const void *B)
{
    const u64 X = *(const u64 *)A, Y = *(const u64 *)B;

    return X < Y ? -1 : X > Y;
}

static u64 TakeMedian(u64 *Values, int Count)
{
    sort(Values, Count, sizeof(*Values), CompareTicks, NULL);
    return Values[Count / 2];
}

static void MeasureOverhead(void)
{
    u64 Ticks[ROUND_COUNT];
    int Index;

    for (Index = 0; Index < ROUND_COUNT; Index++) {
        const u64 Start = ReadTicks();

        Ticks[Index] = ReadTicks() - Start;
    }
    Overhead = TakeMedian(Ticks, ROUND_COUNT);
}

//
// Waiting.
//

#define AWAIT_TURNS 400000000u
#define CALIBRATION_TURNS 1000u
#define GIVEN_TURNS 500000u // see tests/kernel/bench.c

// Turns until *Counter has come to Target, from below (Sign 1) or above (-1).
static noinline u32 AwaitTurns(const volatile u32 *Counter, u32 Target, s32 Sign, u32 Turns)
{
    while (Turns != 0 && (s32)(*Counter - Target) * Sign < 0)
        Turns--;
    return Turns;
}

static u64 CallTicks; // of no turn
static u64 TurnTicks; // of CALIBRATION_TURNS turns

static u64 MeasureTurns(u32 Turns)
{
    const volatile u32 Counter = 0;
    u64 Ticks[ROUND_COUNT];
    int Index;

    for (Index = 0; Index < ROUND_COUNT; Index++) {
        const u64 Start = ReadTicks();

        AwaitTurns(&Counter, 1, 1, Turns);
        Ticks[Index] = ReadTicks() - Start;
    }
    return TakeMedian(Ticks, ROUND_COUNT);
}

// Before any device works: it would be measured, too.
static void CalibrateWaiting(void)
{
    CallTicks = MeasureTurns(0);
    TurnTicks = MeasureTurns(CALIBRATION_TURNS) - CallTicks;
}

// Waits until *Counter has come to Target; returns the ticks that interrupts took meanwhile.
static u64 AwaitFrom(const volatile u32 *Counter, u32 Target, s32 Sign)
{
    u64 Start, Elapsed, Waiting;
    u32 Left;

    Start = ReadTicks();
    Left = AwaitTurns(Counter, Target, Sign, AWAIT_TURNS);
    Elapsed = ReadTicks() - Start;
    if (Left == 0)
        pr_info("peer: gave up waiting\n");
    Waiting = CallTicks + (u64)(AWAIT_TURNS - Left) * TurnTicks / CALIBRATION_TURNS;
    return Elapsed > Waiting ? Elapsed - Waiting : 0;
}

static u64 Await(const volatile u32 *Counter, u32 Target)
{
    return AwaitFrom(Counter, Target, 1);
}

static bool IsOver(u64 Start)
{
    return ReadTicks() - Start >= RunTicks;
}

//
// Device memory: ioremap and iounmap. Linux flushes late and for many at once, so the round is many pairs,
// and the flush.
//

#define GAP (64ull << 30) // where no memory and no device answers

static int Nothing(const struct row *Row)
{
    return 0;
}

static void NothingToCleanUp(void)
{
}

static void MapPairs(const struct row *Row, int Count)
{
    for (; Count > 0; Count--) {
        void __iomem *Va = ioremap(GAP, Row->Size);

        if (Va)
            iounmap(Va);
    }
}

static u64 MapRound(const struct row *Row)
{
    const u64 Start = ReadTicks();

    MapPairs(Row, Row->UnitCount);
    vm_unmap_aliases();
    return ReadTicks() - Start - Overhead;
}

static u64 MapRun(const struct row *Row)
{
    const u64 Start = ReadTicks();
    u64 Count = 0;

    for (; !IsOver(Start); Count += 8) {
        MapPairs(Row, 8);
        cond_resched();
    }
    vm_unmap_aliases();
    return Count;
}

//
// Pages, mapped into an area that is there already, and flushed after their unmapping. Modules do not get
// these functions, so their addresses are looked up.
//

static struct vm_struct *(*GetVmArea)(unsigned long Size, unsigned long Flags);
static int (*VmapPagesRange)(unsigned long Start, unsigned long End, pgprot_t Protection,
                             struct page **Pages, unsigned int PageShift);
static void (*VunmapRange)(unsigned long Start, unsigned long End);
static struct page **Pages;
static u64 PageCount;
static struct vm_struct *Area;

static int FindFunctions(void)
{
    struct kprobe Probe = {.symbol_name = "kallsyms_lookup_name"};
    unsigned long (*Lookup)(const char *Name);
    const int Error = register_kprobe(&Probe);

    if (Error)
        return Error;
    Lookup = (void *)Probe.addr;
    unregister_kprobe(&Probe);
    GetVmArea = (void *)Lookup("get_vm_area");
    VmapPagesRange = (void *)Lookup("vmap_pages_range_noflush");
    if (!VmapPagesRange)
        VmapPagesRange = (void *)Lookup("__vmap_pages_range_noflush");
    VunmapRange = (void *)Lookup("vunmap_range");
    return GetVmArea && VmapPagesRange && VunmapRange ? 0 : -ENOENT;
}

static void FreePages(void)
{
    while (PageCount > 0)
        __free_page(Pages[--PageCount]);
    vfree(Pages);
    if (Area)
        free_vm_area(Area);
    Pages = NULL;
    Area = NULL;
}

static int AllocatePages(const struct row *Row)
{
    const int Error = FindFunctions();

    if (Error)
        return Error;
    Pages = vzalloc(Row->Size * sizeof(*Pages));
    Area = GetVmArea(Row->Size << PAGE_SHIFT, VM_MAP);
    if (!Pages || !Area)
        return -ENOMEM;
    for (; PageCount < Row->Size; PageCount++) {
        Pages[PageCount] = alloc_page(GFP_KERNEL);
        if (!Pages[PageCount])
            return -ENOMEM;
    }
    return 0;
}

static void ReservedPair(void)
{
    const unsigned long Va = (unsigned long)Area->addr;

    if (!VmapPagesRange(Va, Va + (PageCount << PAGE_SHIFT), PAGE_KERNEL, Pages, PAGE_SHIFT))
        VunmapRange(Va, Va + (PageCount << PAGE_SHIFT));
}

static u64 ReservedRound(const struct row *Row)
{
    const u64 Start = ReadTicks();

    ReservedPair();
    return ReadTicks() - Start - Overhead;
}

static u64 ReservedRun(const struct row *Row)
{
    const u64 Start = ReadTicks();
    u64 Count = 0;

    for (; !IsOver(Start); Count++) {
        ReservedPair();
        cond_resched();
    }
    return Count;
}

//
// The same by one thread on each of so many processors, together. No thread shares anything with another
// one but the kernel: each has its own device memory, its own area, its own pages.
//

#define THREAD_LIMIT 16
#define STRIDE_BYTES (16ul << 20)

struct together_thread {
    const struct row *Row;
    bool IsRunning;
    struct completion Done;
    u64 Address; // of device memory
    struct page *Pages[16];
    struct vm_struct *Area;
    u64 Count;
    u64 Ticks;
};

static struct together_thread Threads[THREAD_LIMIT];
static atomic_t Awaited;
static u64 TogetherTicks;

static bool IsReserved(const struct row *Row)
{
    return Row->Size < PAGE_SIZE; // pages, not bytes
}

static void PairOf(const struct together_thread *Thread)
{
    const u64 Size = Thread->Row->Size;

    if (IsReserved(Thread->Row)) {
        const unsigned long Va = (unsigned long)Thread->Area->addr;
        const unsigned long End = Va + (Size << PAGE_SHIFT);

        unsigned long At;

        if (VmapPagesRange(Va, End, PAGE_KERNEL, (struct page **)Thread->Pages, PAGE_SHIFT))
            return;
        for (At = Va; Thread->Row->IsUsed && At < End; At += PAGE_SIZE)
            WRITE_ONCE(*(u32 *)At, At - Va);
        VunmapRange(Va, End);
    } else {
        void __iomem *Va = ioremap(Thread->Address, Size);

        if (Va)
            iounmap(Va);
    }
}

static void RunPairs(struct together_thread *Thread)
{
    const u64 Start = ReadTicks();
    int Index;

    for (Thread->Count = 0; !IsOver(Start); Thread->Count += 8) {
        for (Index = 0; Index < 8; Index++)
            PairOf(Thread);
        cond_resched();
    }
    Thread->Ticks = ReadTicks() - Start;
}

// Twice: the first time everything gets warm.
static int ThreadMain(void *Context)
{
    struct together_thread *const Thread = Context;

    RunPairs(Thread);
    atomic_dec(&Awaited);
    while (atomic_read(&Awaited) > 0)
        cpu_relax();
    RunPairs(Thread);
    complete(&Thread->Done);
    return 0;
}

static void FreeTogether(void)
{
    int Number, Page;

    for (Number = 0; Number < THREAD_LIMIT; Number++) {
        if (Threads[Number].Area)
            free_vm_area(Threads[Number].Area);
        for (Page = 0; Page < ARRAY_SIZE(Threads[Number].Pages); Page++)
            if (Threads[Number].Pages[Page])
                __free_page(Threads[Number].Pages[Page]);
    }
    memset(Threads, 0, sizeof(Threads));
}

static int PrepareTogether(const struct row *Row)
{
    const int Error = FindFunctions();
    u32 Number, Page;

    if (Error)
        return Error;
    if (Row->UnitCount > num_online_cpus())
        return -ENODEV;
    for (Number = 0; Number < Row->UnitCount; Number++) {
        struct together_thread *const Thread = &Threads[Number];

        Thread->Row = Row;
        Thread->Address = GAP + Number * STRIDE_BYTES;
        Thread->Area = GetVmArea(sizeof(Thread->Pages) / sizeof(void *) << PAGE_SHIFT, VM_MAP);
        for (Page = 0; Page < ARRAY_SIZE(Thread->Pages); Page++)
            Thread->Pages[Page] = alloc_page(GFP_KERNEL);
        if (!Thread->Area || !Thread->Pages[ARRAY_SIZE(Thread->Pages) - 1])
            return -ENOMEM;
    }
    return 0;
}

// The longest thread's ticks go to TogetherTicks.
static u64 TogetherRun(const struct row *Row)
{
    u64 Count = 0;
    u32 Number;

    atomic_set(&Awaited, Row->UnitCount);
    for (Number = 0; Number < Row->UnitCount; Number++) {
        struct task_struct *const Task =
            kthread_create(ThreadMain, &Threads[Number], "peer%u", Number);

        if (IS_ERR(Task)) {
            atomic_dec(&Awaited);
            continue;
        }
        init_completion(&Threads[Number].Done);
        Threads[Number].IsRunning = true;
        kthread_bind(Task, Number);
        wake_up_process(Task);
    }
    TogetherTicks = 0;
    for (Number = 0; Number < Row->UnitCount; Number++) {
        if (!Threads[Number].IsRunning)
            continue;
        wait_for_completion(&Threads[Number].Done);
        Count += Threads[Number].Count;
        TogetherTicks = max(TogetherTicks, Threads[Number].Ticks);
    }
    vm_unmap_aliases();
    return Count;
}

//
// The disk, by bios.
//

#define DEPTH 32
#define MAXIMUM_PAGES 32
#define DISK "/dev/nvme0n1"
#define WRAP ((1ull << 30) - 1)

struct request_slot {
    struct bio Bio;
    struct bio_vec Vector[MAXIMUM_PAGES];
    struct page *Pages[MAXIMUM_PAGES];
    u64 ByteOffset;
    u32 IsFree;
};

static struct block_device *Disk;
static struct request_slot *Slots;
static u32 DoneCount, SentCount, ErrorCount;
static DECLARE_WAIT_QUEUE_HEAD(DoneQueue);

static void BioIsDone(struct bio *Bio)
{
    struct request_slot *Slot = container_of(Bio, struct request_slot, Bio);

    if (Bio->bi_status)
        ErrorCount++;
    smp_store_release(&Slot->IsFree, 1);
    WRITE_ONCE(DoneCount, DoneCount + 1);
    if (waitqueue_active(&DoneQueue))
        wake_up(&DoneQueue);
}

static void SendBio(const struct row *Row, struct request_slot *Slot)
{
    u64 Index;

    bio_init(&Slot->Bio, Disk, Slot->Vector, MAXIMUM_PAGES,
             REQ_OP_READ | (Row->IsPolled ? REQ_POLLED : 0));
    Slot->Bio.bi_iter.bi_sector = Slot->ByteOffset >> SECTOR_SHIFT;
    for (Index = 0; Index < Row->Size >> PAGE_SHIFT; Index++)
        __bio_add_page(&Slot->Bio, Slot->Pages[Index], PAGE_SIZE, 0);
    Slot->Bio.bi_end_io = BioIsDone;
    Slot->ByteOffset =
        (Slot->ByteOffset + (Row->Size == PAGE_SIZE ? 7919 * PAGE_SIZE : DEPTH * Row->Size)) & WRAP;
    Slot->IsFree = 0;
    SentCount++;
    submit_bio(&Slot->Bio);
}

// Sends every request that is free; a plug, so that the driver can take them all at once.
static void SendFree(const struct row *Row)
{
    struct blk_plug Plug;
    u32 Index;

    blk_start_plug(&Plug);
    for (Index = 0; Index < Row->Depth; Index++) {
        if (smp_load_acquire(&Slots[Index].IsFree))
            SendBio(Row, &Slots[Index]);
    }
    blk_finish_plug(&Plug);
}

// One poll, by way of the first request that is under way: it finds all that are done.
static void PollOnce(const struct row *Row)
{
    u32 Index;

    for (Index = 0; Index < Row->Depth; Index++) {
        if (!READ_ONCE(Slots[Index].IsFree)) {
            bio_poll(&Slots[Index].Bio, NULL, BLK_POLL_ONESHOT);
            return;
        }
    }
}

// Polls until all are done, each time after there was time to answer all. Returns the ticks of the polls
// that found something.
static u64 PollAll(const struct row *Row)
{
    const volatile u32 Counter = 0;
    u64 Busy = 0;

    while (READ_ONCE(DoneCount) != SentCount) {
        const u32 Before = DoneCount;
        u64 Start, Ticks;

        if (Row->Depth > 1)
            AwaitTurns(&Counter, 1, 1, GIVEN_TURNS);
        Start = ReadTicks();
        PollOnce(Row);
        Ticks = ReadTicks() - Start - Overhead;
        if (DoneCount != Before)
            Busy += Ticks;
    }
    return Busy;
}

static u64 BioRound(const struct row *Row)
{
    const u64 Start = ReadTicks();
    u64 Sending;

    SendFree(Row);
    Sending = ReadTicks() - Start - Overhead;
    return Sending + (Row->IsPolled ? PollAll(Row) : Await(&DoneCount, SentCount));
}

static u64 BioRun(const struct row *Row)
{
    const u64 Start = ReadTicks();
    const u32 Before = DoneCount;

    while (!IsOver(Start)) {
        SendFree(Row);
        if (Row->IsPolled)
            PollOnce(Row);
        else
            wait_event(DoneQueue, SentCount - READ_ONCE(DoneCount) < Row->Depth);
    }
    if (Row->IsPolled)
        PollAll(Row);
    wait_event(DoneQueue, READ_ONCE(DoneCount) == SentCount);
    return DoneCount - Before;
}

static void CloseDisk(void)
{
    u32 Slot, Page;

    if (ErrorCount)
        pr_info("peer: %u reads failed\n", ErrorCount);
    for (Slot = 0; Slots && Slot < DEPTH; Slot++)
        for (Page = 0; Page < MAXIMUM_PAGES; Page++)
            if (Slots[Slot].Pages[Page])
                __free_page(Slots[Slot].Pages[Page]);
    vfree(Slots);
    Slots = NULL;
    if (!IS_ERR_OR_NULL(Disk))
        blkdev_put(Disk, FMODE_READ);
    Disk = NULL;
}

static int OpenDisk(const struct row *Row)
{
    u32 Slot, Page;

    ErrorCount = 0;
    Disk = blkdev_get_by_path(DISK, FMODE_READ, NULL);
    if (IS_ERR(Disk))
        return PTR_ERR(Disk);
    if (Row->IsPolled && !test_bit(QUEUE_FLAG_POLL, &bdev_get_queue(Disk)->queue_flags))
        return -EOPNOTSUPP;
    Slots = vzalloc(DEPTH * sizeof(*Slots));
    if (!Slots)
        return -ENOMEM;
    for (Slot = 0; Slot < DEPTH; Slot++) {
        Slots[Slot].IsFree = 1;
        Slots[Slot].ByteOffset = Slot * Row->Size;
        for (Page = 0; Page < MAXIMUM_PAGES; Page++) {
            Slots[Slot].Pages[Page] = alloc_page(GFP_KERNEL);
            if (!Slots[Slot].Pages[Page])
                return -ENOMEM;
        }
    }
    return 0;
}

//
// The cards: the first one sends, the second one receives. One frame is sent again and again; what comes
// in is taken where a bridge would take it.
//

#define BATCH 32
#define FRAME_BYTES 60
#define FRAME_TYPE 0x88B5 // for local experiments

static struct net_device *Sender, *Receiver;
static struct sk_buff *Frame;
static u32 ReceivedCount;

static rx_handler_result_t TakeFrame(struct sk_buff **Buffer)
{
    if ((*Buffer)->protocol != htons(FRAME_TYPE))
        return RX_HANDLER_PASS;
    consume_skb(*Buffer);
    WRITE_ONCE(ReceivedCount, ReceivedCount + 1);
    return RX_HANDLER_CONSUMED;
}

static void CloseCards(void)
{
    if (Receiver) {
        rtnl_lock();
        netdev_rx_handler_unregister(Receiver);
        rtnl_unlock();
        dev_put(Receiver);
    }
    if (Sender)
        dev_put(Sender);
    kfree_skb(Frame);
    Receiver = Sender = NULL;
    Frame = NULL;
}

static int OpenCards(const struct row *Row)
{
    int Error;

    Sender = dev_get_by_name(&init_net, "eth0");
    Receiver = dev_get_by_name(&init_net, "eth1");
    Frame = alloc_skb(FRAME_BYTES + NET_SKB_PAD, GFP_KERNEL);
    if (!Sender || !Receiver || !Frame) {
        if (Receiver)
            dev_put(Receiver);
        Receiver = NULL;
        return -ENODEV;
    }
    rtnl_lock();
    Error = netdev_rx_handler_register(Receiver, TakeFrame, NULL);
    rtnl_unlock();
    skb_put_zero(Frame, FRAME_BYTES);
    skb_reset_mac_header(Frame);
    Frame->dev = Sender;
    ether_addr_copy(eth_hdr(Frame)->h_source, Sender->dev_addr);
    eth_hdr(Frame)->h_proto = htons(FRAME_TYPE);
    return Error;
}

static void SetDestination(const u8 *Address)
{
    ether_addr_copy(eth_hdr(Frame)->h_dest, Address);
}

// Gives the card up to BATCH frames; returns how many it took.
static u32 SendFrames(void)
{
    struct netdev_queue *Queue = netdev_get_tx_queue(Sender, 0);
    u32 Count = 0;

    local_bh_disable();
    HARD_TX_LOCK(Sender, Queue, smp_processor_id());
    for (; Count < BATCH && !netif_xmit_frozen_or_drv_stopped(Queue); Count++) {
        refcount_inc(&Frame->users);
        if (netdev_start_xmit(Frame, Sender, Queue, Count + 1 < BATCH) != NETDEV_TX_OK) {
            refcount_dec(&Frame->users);
            break;
        }
    }
    HARD_TX_UNLOCK(Sender, Queue);
    local_bh_enable();
    return Count;
}

static const u8 Nobody[ETH_ALEN] = {0x02, 0, 0, 0, 0, 1};

// Ends when the card has done with all frames.
static u64 SendBatch(void)
{
    const u64 Start = ReadTicks();
    u64 Sending;

    SendFrames();
    Sending = ReadTicks() - Start - Overhead;
    return Sending + AwaitFrom((const volatile u32 *)&Frame->users.refs.counter, 1, -1);
}

static u64 SendRound(const struct row *Row)
{
    SetDestination(Nobody);
    return SendBatch();
}

static u64 SendRun(const struct row *Row)
{
    const u64 Start = ReadTicks();
    u64 Count = 0;

    SetDestination(Nobody);
    while (!IsOver(Start)) {
        const u32 Taken = SendFrames();

        Count += Taken;
        if (Taken == 0)
            cond_resched();
    }
    AwaitFrom((const volatile u32 *)&Frame->users.refs.counter, 1, -1);
    return Count;
}

// What a round of both costs more than one of sending.
static u64 ReceiveRound(const struct row *Row)
{
    const u32 Target = ReceivedCount + BATCH;
    u64 Busy;

    SetDestination(Receiver->dev_addr);
    Busy = SendBatch() + Await(&ReceivedCount, Target);
    return Busy > SendingRound ? Busy - SendingRound : 0;
}

// The host sends all it can, once it reads this.
static u64 ReceiveRun(const struct row *Row)
{
    u32 Before;

    Before = ReceivedCount;
    pr_info("# flood\n");
    while (READ_ONCE(ReceivedCount) - Before < 1000)
        usleep_range(100, 200);
    Before = ReceivedCount;
    msleep(RATE_MILLISECONDS);
    return READ_ONCE(ReceivedCount) - Before;
}

//
// Orders.
//

#define MAP(Label, Bytes, Pairs)                                                                   \
    {                                                                                              \
        .Name = Label, .Prepare = Nothing, .Round = MapRound, .Run = MapRun,                       \
        .CleanUp = NothingToCleanUp, .UnitCount = Pairs, .Size = Bytes                             \
    }
#define RESERVED(Label, Count)                                                                     \
    {                                                                                              \
        .Name = Label, .Prepare = AllocatePages, .Round = ReservedRound, .Run = ReservedRun,       \
        .CleanUp = FreePages, .UnitCount = 1, .Size = Count                                        \
    }
#define BIOS(Label, Bytes, Count, Polled)                                                          \
    {                                                                                              \
        .Name = Label, .Prepare = OpenDisk, .Round = BioRound, .Run = BioRun,                      \
        .CleanUp = CloseDisk, .UnitCount = Count, .Size = Bytes, .Depth = Count,                   \
        .IsPolled = Polled                                                                         \
    }

// UnitCount: threads.
#define TOGETHER(Label, Bytes, Count, Used)                                                        \
    {                                                                                              \
        .Name = Label, .Prepare = PrepareTogether, .Run = TogetherRun, .CleanUp = FreeTogether,    \
        .UnitCount = Count, .Size = Bytes, .IsUsed = Used                                          \
    }

static const struct row Rows[] = {
    TOGETHER("map-4K-by-1", 4096, 1, false),
    TOGETHER("map-4K-by-2", 4096, 2, false),
    TOGETHER("reserved-1-by-1", 1, 1, false),
    TOGETHER("reserved-1-by-2", 1, 2, false),
    TOGETHER("reserved-16-by-1", 16, 1, false),
    TOGETHER("reserved-16-by-2", 16, 2, false),
    TOGETHER("reserved-1-used-by-1", 1, 1, true),
    TOGETHER("reserved-1-used-by-2", 1, 2, true),
    TOGETHER("reserved-16-used-by-1", 16, 1, true),
    TOGETHER("reserved-16-used-by-2", 16, 2, true),
    MAP("map-4K", 4096, 512),
    MAP("map-2M", 2ul << 20, 256),
    MAP("map-256M", 256ul << 20, 32),
    MAP("map-1G", 1ul << 30, 128),
    RESERVED("reserved-1", 1),
    RESERVED("reserved-16", 16),
    RESERVED("reserved-256", 256),
    RESERVED("reserved-4096", 4096),
    BIOS("nvme-4k-qd32", 4096, 32, false),
    BIOS("nvme-4k-qd1", 4096, 1, false),
    BIOS("nvme-128k-seq", 128 << 10, 32, false),
    BIOS("nvme-4k-qd32-polled", 4096, 32, true),
    BIOS("nvme-4k-qd1-polled", 4096, 1, true),
    BIOS("nvme-128k-seq-polled", 128 << 10, 32, true),
    {.Name = "net-send-64",
     .Prepare = OpenCards,
     .Round = SendRound,
     .Run = SendRun,
     .CleanUp = CloseCards,
     .UnitCount = BATCH},
    {.Name = "net-receive-64",
     .Prepare = OpenCards,
     .Round = ReceiveRound,
     .Run = ReceiveRun,
     .CleanUp = CloseCards,
     .UnitCount = BATCH},
};

static void CountRow(const struct row *Row)
{
    u64 Ticks[ROUND_COUNT];
    u64 Median;
    int Index;

    for (Index = 0; Index < WARM_UP_ROUNDS; Index++)
        Row->Round(Row);
    for (Index = 0; Index < ROUND_COUNT; Index++) {
        Ticks[Index] = Row->Round(Row);
        cond_resched();
    }
    Median = TakeMedian(Ticks, ROUND_COUNT);
    if (Row->Round == SendRound)
        SendingRound = Median;
    pr_info("# bench %s %llu\n", Row->Name, (Median + Row->UnitCount / 2) / Row->UnitCount);
}

static void RateRow(const struct row *Row)
{
    u64 Start, Count;

    if (Row->Run != ReceiveRun && Row->Run != TogetherRun)
        Row->Run(Row); // so that the next one finds everything warm
    Start = ReadTicks();
    Count = Row->Run(Row);
    if (Row->Run == ReceiveRun)
        Start = ReadTicks() - RunTicks; // it waits for the flood before
    pr_info("# rate %s %llu %llu\n", Row->Name, Count,
            Row->Run == TogetherRun ? TogetherTicks : ReadTicks() - Start);
}

static void Obey(const char *Name, bool IsCounting)
{
    int Index, Error;

    for (Index = 0; Index < ARRAY_SIZE(Rows); Index++) {
        if (strcmp(Rows[Index].Name, Name) != 0)
            continue;
        Error = Rows[Index].Prepare(&Rows[Index]);
        if (Error)
            pr_info("peer: %s: error %d\n", Name, Error);
        else if (IsCounting && Rows[Index].Round)
            CountRow(&Rows[Index]);
        else
            RateRow(&Rows[Index]);
        Rows[Index].CleanUp();
    }
}

static ssize_t WriteOrder(struct file *File, const char __user *From, size_t ByteCount,
                          loff_t *Place)
{
    char Order[64] = "";

    if (ByteCount >= sizeof(Order) || copy_from_user(Order, From, ByteCount))
        return -EINVAL;
    strim(Order);
    if (!strncmp(Order, "count ", 6)) {
        Obey(Order + 6, true);
    } else if (!strncmp(Order, "rate ", 5)) {
        Obey(Order + 5, false);
    } else if (!strcmp(Order, "started")) {
        MARK(MARK_END);
        pr_info("# boot %llu\n", ktime_get_boottime_ns());
    } else {
        return -EINVAL;
    }
    return ByteCount;
}

static const struct proc_ops Operations = {.proc_write = WriteOrder};

static int __init PeerStart(void)
{
    RunTicks = (u64)tsc_khz * RATE_MILLISECONDS;
    MeasureOverhead();
    CalibrateWaiting();
    pr_info("# clock %llu\n", (u64)tsc_khz * 1000);
    return proc_create("peer", 0200, NULL, &Operations) ? 0 : -ENOMEM;
}

static void __exit PeerEnd(void)
{
    remove_proc_entry("peer", NULL);
}

module_init(PeerStart);
module_exit(PeerEnd);
MODULE_LICENSE("GPL v2");
MODULE_DESCRIPTION("the work of IoSpace's benchmarks, for comparison");
