# SPDX-License-Identifier: Apache-2.0
# LibTorch from the Python wheel (or an unpacked libtorch), as plain imported
# targets. The wheel's own TorchConfig.cmake insists on a CUDA toolkit and
# overwrites CMAKE_CUDA_ARCHITECTURES; a CPU build needs neither.
#
#   LIBTORCH           the folder that holds include/ and lib/; by default the
#                      one that `scripts/book setup` put under .deps
#   LibTorch::torch    torch_cpu, c10 and the Gloo headers; never CUDA
#   LibTorch::torch_cuda, LibTorch::nccl    only where the wheel has them and
#                      find_package(CUDAToolkit) was possible

if(NOT LIBTORCH AND DEFINED ENV{LIBTORCH})
  set(LIBTORCH "$ENV{LIBTORCH}")
endif()
if(NOT LIBTORCH)
  file(GLOB candidates
       ${CMAKE_SOURCE_DIR}/.deps/venv/lib/python3*/site-packages/torch)
  if(candidates)
    list(GET candidates 0 LIBTORCH)
  endif()
endif()
set(LIBTORCH "${LIBTORCH}" CACHE PATH "Folder of LibTorch: include/ and lib/")
get_filename_component(LIBTORCH_SITE "${LIBTORCH}" DIRECTORY)

find_library(LibTorch_CPU_LIBRARY torch_cpu PATHS ${LIBTORCH}/lib
             NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 PATHS ${LIBTORCH}/lib NO_DEFAULT_PATH)
find_path(LibTorch_INCLUDE_DIR torch/csrc/distributed/c10d/ProcessGroup.hpp
          PATHS ${LIBTORCH}/include NO_DEFAULT_PATH)
# The wheel ships Gloo's code inside torch_cpu but not its headers.
find_path(LibTorch_GLOO_INCLUDE_DIR gloo/rendezvous/store.h)
set(version_header ${LIBTORCH}/include/torch/headeronly/version.h)
if(EXISTS ${version_header})
  file(STRINGS ${version_header} lines
       REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
  list(JOIN lines " " lines)
  string(REGEX REPLACE
    "^[^0-9]*([0-9]+)[^0-9]+([0-9]+)[^0-9]+([0-9]+).*$" "\\1.\\2.\\3"
    LibTorch_VERSION "${lines}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
                LibTorch_GLOO_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run `scripts/book setup`, or give -DLIBTORCH=/path")

if(LibTorch_FOUND AND NOT TARGET LibTorch::torch)
  # The wheel ships headers of an fmt of its own in include/fmt, newer than the
  # library that the distribution has and that spdlog was built with. Only
  # what torch's headers use of it is common to both: ours comes first.
  get_target_property(fmt_include fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
  set(fmt_first ${CMAKE_BINARY_DIR}/fmt_first)
  file(MAKE_DIRECTORY ${fmt_first})
  file(CREATE_LINK ${fmt_include}/fmt ${fmt_first}/fmt SYMBOLIC)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES
    IMPORTED_LOCATION ${LibTorch_C10_LIBRARY})
  # IMPORTED targets' include folders are SYSTEM: their warnings stay silent.
  add_library(LibTorch::torch SHARED IMPORTED)
  set_target_properties(LibTorch::torch PROPERTIES
    IMPORTED_LOCATION ${LibTorch_CPU_LIBRARY}
    INTERFACE_LINK_LIBRARIES "LibTorch::c10;Threads::Threads"
    INTERFACE_COMPILE_DEFINITIONS "USE_DISTRIBUTED;USE_C10D_GLOO"
    INTERFACE_INCLUDE_DIRECTORIES
      "${fmt_first};${LibTorch_INCLUDE_DIR};${LibTorch_INCLUDE_DIR}/torch/csrc/api/include;${LibTorch_GLOO_INCLUDE_DIR}")
  # torch_cpu needs libcudart and libcupti at load and finds them by its own
  # RPATH; only the linker has to be told that this is in order.
  target_link_options(LibTorch::torch INTERFACE -Wl,--allow-shlib-undefined)
endif()

if(LibTorch_FOUND AND DAI_CUDA AND NOT TARGET LibTorch::torch_cuda)
  find_library(LibTorch_CUDA_LIBRARY torch_cuda PATHS ${LIBTORCH}/lib
               NO_DEFAULT_PATH)
  find_library(LibTorch_C10_CUDA_LIBRARY c10_cuda PATHS ${LIBTORCH}/lib
               NO_DEFAULT_PATH)
  # The wheel's own NCCL first: it is the one that torch_cuda was built for.
  find_path(NCCL_INCLUDE_DIR nccl.h PATHS ${LIBTORCH_SITE}/nvidia/nccl/include)
  find_file(NCCL_LIBRARY NAMES libnccl.so.2 libnccl.so
            PATHS ${LIBTORCH_SITE}/nvidia/nccl/lib /usr/lib/x86_64-linux-gnu
                  /usr/lib/aarch64-linux-gnu)
  find_package(CUDAToolkit QUIET)
  if(LibTorch_CUDA_LIBRARY AND LibTorch_C10_CUDA_LIBRARY AND NCCL_INCLUDE_DIR
     AND NCCL_LIBRARY AND CUDAToolkit_FOUND)
    add_library(LibTorch::nccl SHARED IMPORTED)
    set_target_properties(LibTorch::nccl PROPERTIES
      IMPORTED_LOCATION ${NCCL_LIBRARY}
      INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR}")
    add_library(LibTorch::c10_cuda SHARED IMPORTED)
    set_target_properties(LibTorch::c10_cuda PROPERTIES
      IMPORTED_LOCATION ${LibTorch_C10_CUDA_LIBRARY})
    add_library(LibTorch::torch_cuda SHARED IMPORTED)
    set_target_properties(LibTorch::torch_cuda PROPERTIES
      IMPORTED_LOCATION ${LibTorch_CUDA_LIBRARY}
      INTERFACE_COMPILE_DEFINITIONS "USE_C10D_NCCL;USE_CUDA"
      INTERFACE_INCLUDE_DIRECTORIES "${CUDAToolkit_INCLUDE_DIRS}"
      INTERFACE_LINK_LIBRARIES
        "LibTorch::torch;LibTorch::c10_cuda;LibTorch::nccl")
  endif()
endif()
