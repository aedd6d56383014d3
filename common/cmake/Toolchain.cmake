# SPDX-License-Identifier: Apache-2.0
# Compiler settings that hold for every target of the repository.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
# -fPIC everywhere, not -fPIE for executables: one precompiled header for all.
add_compile_options(-fPIC)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
# Release means optimised and with assertions off, but it keeps -O2: -O3 costs
# build time and our hot loops state their own vector code.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wall>
                    $<$<COMPILE_LANGUAGE:CXX>:-Wextra>)
# One source tree, any folder: __FILE__ and debug info carry relative paths.
# nvcc hands the option on to the host compiler.
add_compile_options(
  $<$<COMPILE_LANGUAGE:CXX,CUDA>:-ffile-prefix-map=${CMAKE_SOURCE_DIR}/=>)

if(DAI_SANITIZE)
  add_compile_options(-fsanitize=${DAI_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${DAI_SANITIZE})
endif()

# A program loads the libraries that it calls, not all that its libraries may.
add_link_options(-Wl,--as-needed)

# mold links a torch executable in a fraction of the time of ld, where present.
find_program(DAI_MOLD mold)
if(DAI_MOLD AND NOT DAI_SANITIZE)
  add_link_options(-fuse-ld=mold)
endif()

# ccache, told that a precompiled header may be cached as well.
find_program(DAI_CCACHE ccache)
if(DAI_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
      ${DAI_CCACHE})
  add_compile_options($<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>)
endif()
