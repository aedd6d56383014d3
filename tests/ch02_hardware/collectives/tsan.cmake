# SPDX-License-Identifier: Apache-2.0
# Builds what shares memory between threads with ThreadSanitizer, and runs it.
# Processes are left out: the sanitizer sees one at a time.
foreach(step IN ITEMS
    "--preset;tsan"
    "--build;--preset;tsan;--target;collectives_test;canonical_test;race_test")
  execute_process(COMMAND ${CMAKE_COMMAND} ${step} WORKING_DIRECTORY ${ROOT}
                  RESULT_VARIABLE code)
  if(code)
    message(FATAL_ERROR "cmake ${step}: ${code}")
  endif()
endforeach()
foreach(test IN ITEMS collectives_test canonical_test)
  execute_process(
    COMMAND ${ROOT}/build/tsan/tests/${test}
            --gtest_filter=*/a:*/b:-*Huge*:Canonical*
    RESULT_VARIABLE code)
  if(code)
    message(FATAL_ERROR "${test} under ThreadSanitizer: ${code}")
  endif()
endforeach()
execute_process(COMMAND ${ROOT}/build/tsan/tests/race_test RESULT_VARIABLE code
                OUTPUT_QUIET ERROR_QUIET)
if(NOT code)
  message(FATAL_ERROR "ThreadSanitizer sees no race where there is one")
endif()
