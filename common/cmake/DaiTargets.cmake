# SPDX-License-Identifier: Apache-2.0
# One call a thing, so that tests come free. Five functions for the chapters:
#
#   dai_library(NAME SOURCES a.cpp HEADERS a.h [DEPS dai::x] [NEEDS TORCH])
#       static library NAME, alias dai::NAME
#   dai_cuda_library(NAME SOURCES a.cu b.cpp HEADERS a.cuh OPENED_BY x)
#       shared library lib/libdai_NAME.so, alias dai::NAME, which library x
#       opens at run time (common/torch/cuda_library.h), so that a process on
#       the CPU never loads CUDA; left out without the toolkit
#   dai_app(NAME [RANKS n] [GPUS n] [PATHS cpu cuda nccl-2] [NEEDS TORCH CUDA]
#           [TIMEOUT s] [DEPS ...])
#       bin/NAME from apps/NAME.cpp, and the test smoke.NAME, which runs it
#       with --smoke under the launcher, and full.NAME (label nightly) at the
#       default sizes; PATHS are the ways it can run, which
#       tests/executed.json records
#   dai_test(NAME [RANKS 1 2 3 4] [MPI_RANKS 1 2 3 4] [DAI_RANKS 1 2 3 4]
#            [GPUS n] [NEEDS ...] [TIMEOUT s] [LABELS ...] [ARGS ...]
#            [DEPS ...])
#       a GoogleTest binary from NAME.cpp; with RANKS, one CTest entry for each
#       number of ranks, under the launcher; with DAI_RANKS the same on
#       --backend dai; with MPI_RANKS under mpirun, on --backend mpi
#   dai_embed(LIBRARY FILE)
#       the text of FILE in LIBRARY, as common/embedded.h tells
#   dai_mutant(APP TAG SOURCE file FIND text REPLACE text [EXPECT regex])
#       APP with one source broken on purpose: the test passes only when the
#       app says failed and exits 1
#
# A package named in NEEDS that is absent leaves out that target alone, and
# everything that depends on it, with a line that says so. dai_finish() audits
# the result and writes manifest.json.

set(DAI_LAUNCH $<TARGET_FILE:dai_launch>)
# A line: the test's name, and a reason after # unless that is a missing GPU.
file(STRINGS ${CMAKE_SOURCE_DIR}/tests/allowed_skips.txt lines REGEX "^[^#]")
set(DAI_ALLOWED_SKIPS "")
set(DAI_REASONED_SKIPS "")
foreach(line IN LISTS lines)
  string(REGEX MATCH "^[^ #]+" name "${line}")
  list(APPEND DAI_ALLOWED_SKIPS ${name})
  if(line MATCHES " # *[^ ]")
    list(APPEND DAI_REASONED_SKIPS ${name})
  endif()
endforeach()
set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY
  CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/allowed_skips.txt)

macro(dai_default VARIABLE VALUE)
  if(NOT ${VARIABLE})
    set(${VARIABLE} ${VALUE})
  endif()
endmacro()

# The floor of a folder in the tower: ch03_ddp and tests/ch03_ddp are 3, common
# and the other tests are 0.
function(dai_floor OUT)
  file(RELATIVE_PATH folder ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  set(floor 0)
  if(folder MATCHES "^(tests/)?ch([0-9][0-9])_")
    math(EXPR floor "${CMAKE_MATCH_2}")
  endif()
  set(${OUT} ${floor} PARENT_SCOPE)
endfunction()

# Sets OUT to why NAME cannot be built here, or to nothing.
function(dai_missing OUT NEEDS DEPS)
  set(reason "")
  foreach(need IN LISTS NEEDS)
    if(NOT DAI_HAVE_${need})
      set(reason "needs ${need}")
    endif()
  endforeach()
  foreach(dep IN LISTS DEPS)
    if(NOT TARGET ${dep} AND NOT reason)
      string(REPLACE "dai::" "" plain ${dep})
      get_property(reason GLOBAL PROPERTY DAI_NOT_BUILT_${plain})
      if(NOT reason)
        message(FATAL_ERROR "DEPS names ${dep}, which no target is called")
      endif()
    endif()
  endforeach()
  set(${OUT} "${reason}" PARENT_SCOPE)
endfunction()

function(dai_not_built NAME REASON)
  message(STATUS "not built: ${NAME} (${REASON})")
  set_property(GLOBAL PROPERTY DAI_NOT_BUILT_${NAME} "${REASON}")
endfunction()

# A chapter may use itself, common and earlier chapters, never a later one.
function(dai_check_arrows NAME)
  dai_floor(floor)
  foreach(dep IN LISTS ARGN)
    get_target_property(plain ${dep} ALIASED_TARGET)
    if(plain)
      get_target_property(below ${plain} DAI_FLOOR)
      if(below GREATER floor)
        message(FATAL_ERROR
          "${NAME} (floor ${floor}) may not depend on ${dep} (floor ${below}):"
          " arrows point down, to common or an earlier chapter")
      endif()
    endif()
  endforeach()
endfunction()

# LibTorch's headers cost 10-20 s a file; one precompiled header serves all.
function(dai_use_torch NAME)
  target_link_libraries(${NAME} PUBLIC LibTorch::torch)
  if(TARGET dai_torch_pch)
    target_precompile_headers(${NAME} REUSE_FROM dai_torch_pch)
  endif()
endfunction()

function(dai_library NAME)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "" "SOURCES;HEADERS;DEPS;NEEDS")
  dai_missing(reason "${ARG_NEEDS}" "${ARG_DEPS}")
  if(reason)
    dai_not_built(${NAME} "${reason}")
    return()
  endif()
  dai_check_arrows(${NAME} ${ARG_DEPS})
  dai_floor(floor)
  add_library(${NAME} STATIC ${ARG_SOURCES})
  add_library(dai::${NAME} ALIAS ${NAME})
  target_sources(${NAME} PUBLIC FILE_SET HEADERS
    BASE_DIRS ${CMAKE_SOURCE_DIR} FILES ${ARG_HEADERS})
  target_link_libraries(${NAME} PUBLIC ${ARG_DEPS})
  set_target_properties(${NAME} PROPERTIES
    DAI_FLOOR ${floor} VERIFY_INTERFACE_HEADER_SETS ON)
  if("TORCH" IN_LIST ARG_NEEDS)
    dai_use_torch(${NAME})
  endif()
endfunction()

# A program that is copied to a cluster's nodes brings its data along.
function(dai_embed LIBRARY FILE)
  if(NOT TARGET ${LIBRARY})
    return()  # not built here, and said so
  endif()
  set(path ${CMAKE_CURRENT_SOURCE_DIR}/${FILE})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${path})
  file(READ ${path} text)
  get_filename_component(name ${FILE} NAME)
  string(MAKE_C_IDENTIFIER ${name} symbol)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp)
  set(body "// Made by dai_embed() from ${FILE}.
extern const char dai_embedded_${symbol}[];
const char dai_embedded_${symbol}[] = R\"_DAI_(${text})_DAI_\";
")
  set(before "")
  if(EXISTS ${source})
    file(READ ${source} before)
  endif()
  if(NOT body STREQUAL before)
    file(WRITE ${source} "${body}")
  endif()
  target_sources(${LIBRARY} PRIVATE ${source})
  # One line of source: nothing that a precompiled header would speed up.
  set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
endfunction()

function(dai_cuda_library NAME)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "OPENED_BY" "SOURCES;HEADERS")
  if(NOT DAI_HAVE_CUDA)
    dai_not_built(${NAME} "needs CUDA")
    return()
  endif()
  dai_floor(floor)
  # Kernels by themselves: nvcc sees no torch header (minutes, otherwise) and
  # none of torch's include folders.
  set(kernels ${ARG_SOURCES})
  list(FILTER kernels INCLUDE REGEX "[.]cu$")
  list(FILTER ARG_SOURCES EXCLUDE REGEX "[.]cu$")
  add_library(${NAME}_kernels OBJECT ${kernels})
  target_include_directories(${NAME}_kernels PRIVATE ${CMAKE_SOURCE_DIR})
  add_library(${NAME} SHARED ${ARG_SOURCES}
              $<TARGET_OBJECTS:${NAME}_kernels>)
  add_library(dai::${NAME} ALIAS ${NAME})
  target_sources(${NAME} PUBLIC FILE_SET HEADERS
    BASE_DIRS ${CMAKE_SOURCE_DIR} FILES ${ARG_HEADERS})
  target_link_libraries(${NAME} PUBLIC LibTorch::torch_cuda CUDA::cudart)
  # A symbol that nobody has fails here, not where a GPU is.
  target_link_options(${NAME} PRIVATE -Wl,-z,defs)
  # c10/cuda/CUDAEvent.h trips it, and system folders do not hide it.
  target_compile_options(${NAME} PUBLIC -Wno-interference-size)
  set_target_properties(${NAME} PROPERTIES
    OUTPUT_NAME dai_${NAME} DAI_FLOOR ${floor} LINKER_LANGUAGE CXX
    VERIFY_INTERFACE_HEADER_SETS ON
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
  # Whoever builds an app builds the half that it may open.
  add_dependencies(${ARG_OPENED_BY} ${NAME})
endfunction()

# Registers one CTest entry that runs COMMAND. Exit code 77 means "skipped"
# only where tests/allowed_skips.txt names the test; elsewhere it fails.
function(dai_add_test NAME RANKS GPUS TIMEOUT LABELS)
  add_test(NAME ${NAME} COMMAND ${ARGN})
  if(GPUS)
    list(APPEND LABELS gpu${GPUS})
    set_tests_properties(${NAME} PROPERTIES RESOURCE_LOCK gpu)
  else()
    list(APPEND LABELS cpu)
  endif()
  file(RELATIVE_PATH folder ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  string(REGEX MATCH "ch[0-9][0-9]_[a-z_]+|common|meta|scripts" room "${folder}")
  list(APPEND LABELS ${room})
  set_tests_properties(${NAME} PROPERTIES
    LABELS "${LABELS}" TIMEOUT ${TIMEOUT} PROCESSORS ${RANKS})
  if(NAME IN_LIST DAI_ALLOWED_SKIPS)
    if(NOT GPUS AND NOT NAME IN_LIST DAI_REASONED_SKIPS)
      message(FATAL_ERROR "tests/allowed_skips.txt names ${NAME}, which needs "
                          "no GPU: such a test may not be skipped without a "
                          "reason")
    endif()
    set_tests_properties(${NAME} PROPERTIES SKIP_RETURN_CODE 77)
  endif()
  set_property(GLOBAL APPEND PROPERTY DAI_TEST_NAMES ${NAME})
endfunction()

# Tests share the cores with each other. Two that each keep all cores spinning
# take many times the time of both in turn, so a test's program gets one thread
# and asks for more by itself where threads are its subject.
function(dai_one_thread NAME)
  set_property(TEST ${NAME} APPEND PROPERTY ENVIRONMENT OMP_NUM_THREADS=1)
endfunction()

function(dai_app NAME)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "RANKS;GPUS;TIMEOUT"
                        "PATHS;NEEDS;DEPS")
  dai_default(ARG_RANKS 1)
  dai_default(ARG_PATHS cpu)
  dai_default(ARG_GPUS 0)
  dai_default(ARG_TIMEOUT 120)
  dai_missing(reason "${ARG_NEEDS}" "${ARG_DEPS}")
  get_filename_component(chapter ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  set(built true)
  if(reason)
    set(built false)
  endif()
  list(JOIN ARG_NEEDS " " needs)
  list(JOIN ARG_PATHS "\", \"" paths)
  set_property(GLOBAL APPEND PROPERTY DAI_MANIFEST_APPS
    "{\"name\": \"${NAME}\", \"chapter\": \"${chapter}\", \
\"source\": \"${chapter}/apps/${NAME}.cpp\", \"smoke\": \"smoke.${NAME}\", \
\"ranks\": ${ARG_RANKS}, \"gpus\": ${ARG_GPUS}, \"needs\": \"${needs}\", \
\"paths\": [\"${paths}\"], \
\"built\": ${built}, \"reason\": \"${reason}\"}")
  if(reason)
    dai_not_built(${NAME} "${reason}")
    return()
  endif()

  # main() is an object of its own, so that broken twins share it.
  dai_check_arrows(${NAME} ${ARG_DEPS})
  add_library(${NAME}_main OBJECT apps/${NAME}.cpp)
  target_link_libraries(${NAME}_main PUBLIC dai::common ${ARG_DEPS})
  if("TORCH" IN_LIST ARG_NEEDS)
    dai_use_torch(${NAME}_main)
  endif()
  add_executable(${NAME} $<TARGET_OBJECTS:${NAME}_main>)
  target_link_libraries(${NAME} PRIVATE dai::common ${ARG_DEPS})
  set_target_properties(${NAME} PROPERTIES
    LINKER_LANGUAGE CXX DAI_SMOKE smoke.${NAME} DAI_RANKS ${ARG_RANKS}
    DAI_DEPS "${ARG_DEPS}" DAI_NEEDS "${ARG_NEEDS}")
  add_dependencies(${NAME} dai_launch)
  if(BUILD_TESTING)
    dai_add_test(smoke.${NAME} ${ARG_RANKS} ${ARG_GPUS} ${ARG_TIMEOUT} smoke
      ${DAI_LAUNCH} --standalone --nproc-per-node ${ARG_RANKS}
      $<TARGET_FILE:${NAME}> --smoke)
    dai_one_thread(smoke.${NAME})
    # The default sizes: `scripts/book test --full`.
    dai_add_test(full.${NAME} ${ARG_RANKS} ${ARG_GPUS} 1800 nightly
      ${DAI_LAUNCH} --standalone --nproc-per-node ${ARG_RANKS}
      $<TARGET_FILE:${NAME}>)
  endif()
endfunction()

function(dai_test NAME)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "GPUS;TIMEOUT"
                        "RANKS;MPI_RANKS;DAI_RANKS;LABELS;ARGS;NEEDS;DEPS")
  dai_default(ARG_GPUS 0)
  dai_default(ARG_TIMEOUT 120)
  dai_missing(reason "${ARG_NEEDS}" "${ARG_DEPS}")
  if(reason)
    dai_not_built(${NAME} "${reason}")
    return()
  endif()
  add_executable(${NAME} ${NAME}.cpp)
  target_link_libraries(${NAME} PRIVATE ${ARG_DEPS} GTest::gmock)
  set_target_properties(${NAME} PROPERTIES
    DAI_SMOKE unit RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if("TORCH" IN_LIST ARG_NEEDS)
    dai_use_torch(${NAME})
  endif()
  if(NOT ARG_RANKS AND NOT ARG_MPI_RANKS AND NOT ARG_DAI_RANKS)
    target_link_libraries(${NAME} PRIVATE GTest::gmock_main)
    dai_add_test(unit.${NAME} 1 ${ARG_GPUS} ${ARG_TIMEOUT}
      "unit;${ARG_LABELS}" ${NAME} ${ARG_ARGS})
    dai_one_thread(unit.${NAME})
    return()
  endif()
  # Its main() joins the ranks first: tests/support/distributed_test.h.
  target_link_libraries(${NAME} PRIVATE dai::distributed_test)
  add_dependencies(${NAME} dai_launch)
  foreach(ranks IN LISTS ARG_RANKS)
    dai_add_test(distributed.${NAME}.${ranks} ${ranks} ${ARG_GPUS}
      ${ARG_TIMEOUT} "distributed;${ARG_LABELS}"
      ${DAI_LAUNCH} --standalone --nproc-per-node ${ranks}
      $<TARGET_FILE:${NAME}> ${ARG_ARGS})
  endforeach()
  foreach(ranks IN LISTS ARG_DAI_RANKS)
    dai_add_test(dai.${NAME}.${ranks} ${ranks} ${ARG_GPUS} ${ARG_TIMEOUT}
      "distributed;${ARG_LABELS}"
      ${DAI_LAUNCH} --standalone --nproc-per-node ${ranks}
      $<TARGET_FILE:${NAME}> ${ARG_ARGS})
    set_property(TEST dai.${NAME}.${ranks} APPEND PROPERTY ENVIRONMENT
      DAI_TEST_BACKEND=dai)
  endforeach()
  foreach(ranks IN LISTS ARG_MPI_RANKS)
    if(NOT DAI_HAVE_MPI)
      dai_not_built(mpi.${NAME}.${ranks} "needs MPI")
      continue()
    endif()
    dai_add_test(mpi.${NAME}.${ranks} ${ranks} ${ARG_GPUS} ${ARG_TIMEOUT}
      "distributed;mpi;${ARG_LABELS}"
      ${MPIEXEC_EXECUTABLE} --oversubscribe -n ${ranks}
      $<TARGET_FILE:${NAME}> ${ARG_ARGS})
    set_property(TEST mpi.${NAME}.${ranks} APPEND PROPERTY ENVIRONMENT
      DAI_TEST_BACKEND=mpi OMPI_ALLOW_RUN_AS_ROOT=1
      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1)
    dai_one_thread(mpi.${NAME}.${ranks})
  endforeach()
endfunction()

function(dai_mutant APP TAG)
  cmake_parse_arguments(PARSE_ARGV 2 ARG "" "SOURCE;FIND;REPLACE;EXPECT;RANKS"
                        "ARGS")
  if(NOT TARGET ${APP})
    return()  # the app itself is not built here and said so
  endif()
  set(source ${CMAKE_SOURCE_DIR}/${ARG_SOURCE})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
  # A semicolon separates list items in CMake: hide it while we replace.
  file(READ ${source} whole)
  string(FIND "${whole}" "${ARG_FIND}" first)
  string(FIND "${whole}" "${ARG_FIND}" last REVERSE)
  if(first EQUAL -1 OR NOT first EQUAL last)
    message(FATAL_ERROR "dai_mutant(${APP} ${TAG}): '${ARG_FIND}' must occur "
                        "exactly once in ${ARG_SOURCE}")
  endif()
  string(REPLACE "${ARG_FIND}" "${ARG_REPLACE}" whole "${whole}")
  get_filename_component(stem ${ARG_SOURCE} NAME)
  set(mutant ${CMAKE_BINARY_DIR}/mutants/${APP}.${TAG}/${stem})
  file(CONFIGURE OUTPUT ${mutant} CONTENT "${whole}" @ONLY)

  # The broken object comes first on the link line; the linker then never
  # takes the whole one out of its library. main() and checks are as shipped.
  set(name ${APP}.${TAG})
  get_target_property(deps ${APP} DAI_DEPS)
  get_target_property(needs ${APP} DAI_NEEDS)
  add_executable(${name} ${mutant})
  if(NOT ARG_SOURCE MATCHES "/apps/")
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:${APP}_main>)
  endif()
  target_link_libraries(${name} PRIVATE dai::common ${deps})
  if("TORCH" IN_LIST needs)
    dai_use_torch(${name})
  endif()
  set_target_properties(${name} PROPERTIES
    DAI_SMOKE mutant RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(NOT ARG_RANKS)
    get_target_property(ARG_RANKS ${APP} DAI_RANKS)
  endif()
  if(NOT ARG_EXPECT)
    set(ARG_EXPECT "check: .* FAILED")
  endif()
  add_dependencies(${name} dai_launch)
  dai_add_test(mutant.${name} ${ARG_RANKS} 0 120 mutant
    ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/support/expect.py
    --exit 1 --output ${ARG_EXPECT} --
    ${DAI_LAUNCH} --standalone --nproc-per-node ${ARG_RANKS}
    $<TARGET_FILE:${name}> --smoke ${ARG_ARGS})
  dai_one_thread(mutant.${name})
endfunction()

function(dai_all_executables OUT FOLDER)
  get_property(targets DIRECTORY ${FOLDER} PROPERTY BUILDSYSTEM_TARGETS)
  get_property(below DIRECTORY ${FOLDER} PROPERTY SUBDIRECTORIES)
  set(found "")
  foreach(target IN LISTS targets)
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "EXECUTABLE")
      list(APPEND found ${target})
    endif()
  endforeach()
  foreach(folder IN LISTS below)
    dai_all_executables(more ${folder})
    list(APPEND found ${more})
  endforeach()
  set(${OUT} "${found}" PARENT_SCOPE)
endfunction()

# The audit: nothing that runs goes untested, no skip goes unnamed. Then the
# manifest that scripts/book and the meta tests read.
function(dai_finish)
  dai_all_executables(executables ${CMAKE_SOURCE_DIR})
  get_property(tests GLOBAL PROPERTY DAI_TEST_NAMES)
  foreach(target IN LISTS executables)
    get_target_property(smoke ${target} DAI_SMOKE)
    if(NOT smoke)
      message(FATAL_ERROR "executable ${target} has no smoke test: declare it "
                          "with dai_app() or dai_test()")
    endif()
  endforeach()
  if(BUILD_TESTING)
    foreach(name IN LISTS DAI_ALLOWED_SKIPS)
      if(NOT name IN_LIST tests AND DAI_HAVE_CUDA)
        message(FATAL_ERROR "tests/allowed_skips.txt names ${name}, "
                            "but no test is called so")
      endif()
    endforeach()
  endif()

  get_property(apps GLOBAL PROPERTY DAI_MANIFEST_APPS)
  list(JOIN apps ",\n    " apps)
  list(JOIN tests "\", \"" names)
  get_filename_component(preset ${CMAKE_BINARY_DIR} NAME)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/manifest.json CONTENT
"{
  \"schema\": 1,
  \"preset\": \"${preset}\",
  \"version\": \"${PROJECT_VERSION}\",
  \"apps\": [
    ${apps}
  ],
  \"tests\": [\"${names}\"]
}
" @ONLY)
endfunction()
