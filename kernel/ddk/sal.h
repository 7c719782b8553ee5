// Annotations of the NT headers, for gcc and clang.
//
// Two families are real: _Must_inspect_result_ makes an ignored result an error, and the lock
// family feeds clang's thread-safety analysis. All others are for the reader and expand to nothing.
#pragma once

#define _Must_inspect_result_ __attribute__((warn_unused_result))

// Parameters: who reads, who writes, how much of it, and whether NULL is allowed.
#define _In_
#define _In_opt_
#define _In_z_
#define _In_opt_z_
#define _In_reads_(Count)
#define _In_reads_opt_(Count)
#define _In_reads_bytes_(ByteCount)
#define _In_reads_bytes_opt_(ByteCount)
#define _Out_
#define _Out_opt_
#define _Out_writes_(Count)
#define _Out_writes_opt_(Count)
#define _Out_writes_z_(Count)
#define _Out_writes_bytes_(ByteCount)
#define _Out_writes_bytes_opt_(ByteCount)
#define _Outptr_
#define _Outptr_result_maybenull_
#define _Inout_
#define _Inout_opt_
#define _Inout_updates_(Count)
#define _Inout_updates_bytes_(ByteCount)
#define _Reserved_
#define _Printf_format_string_

// Results and structure members.
#define _Ret_maybenull_
#define _Success_(Expression)
#define _When_(Expression, Annotations)
#define _At_(Target, Annotations)
#define _Field_size_(Count)
#define _Field_size_bytes_(ByteCount)
#define _Use_decl_annotations_
#define _Function_class_(Name)
#define _Dispatch_type_(MajorFunction)
#define __drv_allocatesMem(Kind)
#define __drv_freesMem(Kind)
#define __drv_aliasesMem

// IRQL. Checked builds assert the limit at run time.
#define _IRQL_requires_(Irql)
#define _IRQL_requires_min_(Irql)
#define _IRQL_requires_max_(Irql)
#define _IRQL_requires_same_
#define _IRQL_raises_(Irql)
#define _IRQL_saves_
#define _IRQL_restores_

// Locks. gcc would warn about attributes that it does not know.
#ifdef __clang__
#define _Lock_type_(Name) __attribute__((capability(Name)))
#define _Acquires_lock_(Lock) __attribute__((acquire_capability(Lock)))
#define _Releases_lock_(Lock) __attribute__((release_capability(Lock)))
#define _Requires_lock_held_(Lock) __attribute__((requires_capability(Lock)))
#define _Requires_lock_not_held_(Lock) __attribute__((locks_excluded(Lock)))
#define _Guarded_by_(Lock) __attribute__((guarded_by(Lock)))
#define _No_lock_analysis_ __attribute__((no_thread_safety_analysis))
#else
#define _Lock_type_(Name)
#define _Acquires_lock_(Lock)
#define _Releases_lock_(Lock)
#define _Requires_lock_held_(Lock)
#define _Requires_lock_not_held_(Lock)
#define _Guarded_by_(Lock)
#define _No_lock_analysis_
#endif
