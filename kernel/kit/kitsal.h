// Annotations that mingw-w64's <sal.h> and <driverspecs.h> lack. They are for the reader and for
// Microsoft's analyser, and expand to nothing.
#pragma once

#include <driverspecs.h>
#include <sal.h>

#ifndef _Dispatch_type_
#define _Dispatch_type_(MajorFunction)
#endif
#ifndef _IRQL_uses_cancel_
#define _IRQL_uses_cancel_
#endif
#ifndef _IRQL_is_cancel_
#define _IRQL_is_cancel_
#endif
#ifndef _IRQL_always_function_max_
#define _IRQL_always_function_max_(Irql)
#endif
#ifndef _IRQL_always_function_min_
#define _IRQL_always_function_min_(Irql)
#endif
#ifndef _IRQL_restores_global_
#define _IRQL_restores_global_(Kind, Parameter)
#endif
#ifndef _IRQL_saves_global_
#define _IRQL_saves_global_(Kind, Parameter)
#endif
#ifndef _Kernel_clear_do_init_
#define _Kernel_clear_do_init_(YesNo)
#endif
#ifndef _Kernel_float_saved_
#define _Kernel_float_saved_
#endif
#ifndef _Kernel_float_restored_
#define _Kernel_float_restored_
#endif
#ifndef _Kernel_float_used_
#define _Kernel_float_used_
#endif
#ifndef _Kernel_requires_resource_held_
#define _Kernel_requires_resource_held_(Kind)
#endif
#ifndef _Kernel_requires_resource_not_held_
#define _Kernel_requires_resource_not_held_(Kind)
#endif
#ifndef _Kernel_acquires_resource_
#define _Kernel_acquires_resource_(Kind)
#endif
#ifndef _Kernel_releases_resource_
#define _Kernel_releases_resource_(Kind)
#endif
#ifndef _Kernel_IoGetDmaAdapter_
#define _Kernel_IoGetDmaAdapter_
#endif
#ifndef _Interlocked_operand_
#define _Interlocked_operand_
#endif
#ifndef _Enum_is_bitflag_
#define _Enum_is_bitflag_
#endif
#ifndef _Strict_type_match_
#define _Strict_type_match_
#endif
#ifndef _Analysis_noreturn_
#define _Analysis_noreturn_
#endif
#ifndef _Frees_ptr_
#define _Frees_ptr_
#endif
#ifndef _Frees_ptr_opt_
#define _Frees_ptr_opt_
#endif
#ifndef _Maybenull_
#define _Maybenull_
#endif
#ifndef _Notnull_
#define _Notnull_
#endif
#ifndef _Null_
#define _Null_
#endif
#ifndef _Valid_
#define _Valid_
#endif
#ifndef _Notvalid_
#define _Notvalid_
#endif
#ifndef _Pre_
#define _Pre_
#endif
#ifndef _Post_
#define _Post_
#endif
#ifndef _Post_invalid_
#define _Post_invalid_
#endif
#ifndef _Post_ptr_invalid_
#define _Post_ptr_invalid_
#endif
#ifndef _Unreferenced_parameter_
#define _Unreferenced_parameter_
#endif
#ifndef _Flexible_array_size_
#define _Flexible_array_size_(Parameters)
#endif
#ifndef __drv_functionClass
#define __drv_functionClass(Name)
#endif
#ifndef __drv_preferredFunction
#define __drv_preferredFunction(Name, Why)
#endif
#ifndef __drv_reportError
#define __drv_reportError(Why)
#endif
#ifndef __drv_strictTypeMatch
#define __drv_strictTypeMatch(Mode)
#endif
#ifndef __drv_interlocked
#define __drv_interlocked
#endif
#ifndef __annotation
#define __annotation(...)
#endif
#ifndef __assume
#define __assume(Expression) ((Expression) ? (void)0 : __builtin_unreachable())
#endif
#ifndef CFORCEINLINE
#define CFORCEINLINE FORCEINLINE
#endif
#ifndef EXTERN_C_START
#define EXTERN_C_START
#define EXTERN_C_END
#endif
#ifndef DECLSPEC_UUID
#define DECLSPEC_UUID(Text)
#endif
