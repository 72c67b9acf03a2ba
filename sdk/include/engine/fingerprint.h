/* What the C++ side of a NATIVE plugin was built with, as readable text: it must equal the host's,
 * since classes of LibTorch and of the standard library cross. No stricter than the truth: the
 * compilers of one family of __GXX_ABI_VERSION agree on the layout of classes.
 *   torch=2.13.0;cxx11abi=1;gxxabi=1xxx;stdlib=libstdcxx;glibcxx_debug=0
 * Needs LibTorch's headers.
 */
#ifndef ENGINE_FINGERPRINT_H_
#define ENGINE_FINGERPRINT_H_

#include <torch/version.h>

#include <cstddef> /* the standard library's own macros */

#if __GXX_ABI_VERSION >= 1002 && __GXX_ABI_VERSION <= 1999
#define ENGINE_FINGERPRINT_GXX "1xxx"
#elif __GXX_ABI_VERSION >= 2000 && __GXX_ABI_VERSION <= 2999
#define ENGINE_FINGERPRINT_GXX "2xxx"
#else
#error "no fingerprint is known for this compiler's C++ ABI"
#endif

#if defined(_LIBCPP_VERSION)
#define ENGINE_FINGERPRINT_STDLIB "libcxx"
#elif defined(__GLIBCXX__)
#define ENGINE_FINGERPRINT_STDLIB "libstdcxx"
#else
#error "no fingerprint is known for this C++ standard library"
#endif

#if defined(_GLIBCXX_USE_CXX11_ABI) && _GLIBCXX_USE_CXX11_ABI
#define ENGINE_FINGERPRINT_CXX11 "1"
#else
#define ENGINE_FINGERPRINT_CXX11 "0"
#endif

#ifdef _GLIBCXX_DEBUG
#define ENGINE_FINGERPRINT_DEBUG "1"
#else
#define ENGINE_FINGERPRINT_DEBUG "0"
#endif

#define ENGINE_FINGERPRINT                                                                       \
  "torch=" TORCH_VERSION ";cxx11abi=" ENGINE_FINGERPRINT_CXX11 ";gxxabi=" ENGINE_FINGERPRINT_GXX \
  ";stdlib=" ENGINE_FINGERPRINT_STDLIB ";glibcxx_debug=" ENGINE_FINGERPRINT_DEBUG

#endif /* ENGINE_FINGERPRINT_H_ */
