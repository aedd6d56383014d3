# SPDX-License-Identifier: Apache-2.0
# Builds what shares memory between threads with ThreadSanitizer, and runs it.
# Processes are left out: the sanitizer sees one at a time.
# a and b are threads of one process (Medium in rank_runner.h).
set(tests collectives_test canonical_test transport_test)
set(filters "*/a:*/b" "*/a" "*/a:*/b:MessageEngine.*:Tcp.*")
foreach(step IN ITEMS
    "--preset;tsan"
    "--build;--preset;tsan;--target;collectives_test;canonical_test;transport_test;race_test")
  execute_process(COMMAND ${CMAKE_COMMAND} ${step} WORKING_DIRECTORY ${ROOT}
                  RESULT_VARIABLE code)
  if(code)
    message(FATAL_ERROR "cmake ${step}: ${code}")
  endif()
endforeach()
foreach(test filter IN ZIP_LISTS tests filters)
  execute_process(
    COMMAND ${ROOT}/build/tsan/tests/${test} --gtest_filter=${filter}
    RESULT_VARIABLE code)
  if(code)
    message(FATAL_ERROR "${test} under ThreadSanitizer: ${code}")
  endif()
endforeach()
execute_process(COMMAND ${ROOT}/build/tsan/tests/race_test
                OUTPUT_QUIET ERROR_VARIABLE said)
if(NOT said MATCHES "WARNING: ThreadSanitizer: data race")
  message(FATAL_ERROR "ThreadSanitizer sees no race where there is one")
endif()
