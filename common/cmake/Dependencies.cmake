# SPDX-License-Identifier: Apache-2.0
# Every package that the repository uses, found in this one place.
# What is optional sets DAI_HAVE_<NAME>; dai_app(... NEEDS <NAME>) asks for it.

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(ZLIB REQUIRED)
find_package(Python3 REQUIRED COMPONENTS Interpreter)
# yaml-cpp 0.7 exports `yaml-cpp`, 0.8 `yaml-cpp::yaml-cpp`.
if(NOT TARGET yaml-cpp::yaml-cpp)
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()
if(BUILD_TESTING)
  find_package(GTest REQUIRED)
endif()

set(DAI_HAVE_TORCH OFF)
if(DAI_TORCH)
  find_package(LibTorch REQUIRED)
  set(DAI_HAVE_TORCH ON)
endif()

set(DAI_HAVE_MPI OFF)
if(DAI_TORCH)
  set(MPI_CXX_SKIP_MPICXX ON)  # MPI's C interface is all we use
  find_package(MPI COMPONENTS C)
  set(DAI_HAVE_MPI ${MPI_C_FOUND})
endif()

set(DAI_HAVE_CUDA OFF)
if(DAI_CUDA)
  # The only place that names GPU generations: A100, H100/H200, B200.
  set(CMAKE_CUDA_ARCHITECTURES 80 90 100)
  find_package(CUDAToolkit REQUIRED)
  if(NOT TARGET LibTorch::torch_cuda)
    message(FATAL_ERROR
      "preset cuda needs LibTorch with CUDA and NCCL, ${LIBTORCH} has none: "
      "run `scripts/book setup --preset cuda`, or use preset cpu")
  endif()
  # The toolkit that was found compiles. Libraries name CUDA::cudart, the shared
  # runtime that LibTorch loads as well, by themselves.
  if(NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
  endif()
  set(CMAKE_CUDA_RUNTIME_LIBRARY None)
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)  # CMake 3.25.1 knows no more of nvcc
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(DAI_HAVE_CUDA ON)
endif()
