/* SPDX-License-Identifier: Apache-2.0 */

/* Open MPI's all_reduce as its own user would time it: MPI_Allreduce in place
   on floats, from the thread that calls it. Prints one line of JSON.

     mpirun -n 2 openmpi_all_reduce BYTES ROUNDS WARM_UP */

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static void reduce(float* data, int count) {
  MPI_Allreduce(MPI_IN_PLACE, data, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank, ranks;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (argc != 4) {
    if (rank == 0) fprintf(stderr, "usage: BYTES ROUNDS WARM_UP\n");
    MPI_Finalize();
    return 2;
  }
  const int count = (int)(atoll(argv[1]) / sizeof(float));
  const int rounds = atoi(argv[2]), warm_up = atoi(argv[3]);
  float* data = malloc((size_t)count * sizeof(float) + 1);
  for (int i = 0; i < count; ++i) data[i] = (float)(rank + i % 5);
  reduce(data, count);
  int wrong = 0;
  for (int i = 0; i < count; ++i) {
    const float want = (float)(ranks * (ranks - 1) / 2 + ranks * (i % 5));
    wrong += data[i] != want;
  }
  for (int i = 0; i < count; ++i) data[i] = 0; /* sums that cannot overflow */
  for (int i = 0; i < warm_up; ++i) reduce(data, count);
  MPI_Barrier(MPI_COMM_WORLD);
  const double start = MPI_Wtime();
  for (int i = 0; i < rounds; ++i) reduce(data, count);
  double mine = (MPI_Wtime() - start) / rounds * 1e6, sum = 0;
  int all_wrong = 0;
  MPI_Reduce(&mine, &sum, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
  MPI_Reduce(&wrong, &all_wrong, 1, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD);
  if (rank == 0) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(version, &length);
    for (int i = 0; i < length; ++i) {
      if (version[i] == ',' || version[i] == '\n') version[i] = 0;
    }
    printf("{\"time_us\": %.3f, \"wrong_elements\": %d, \"version\": \"%s\"}\n",
           sum / ranks, all_wrong, version);
  }
  free(data);
  MPI_Finalize();
  return all_wrong != 0;
}
