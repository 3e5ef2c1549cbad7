"""How a trial trains: steps, packing, data-parallel ranks, the loop, its state. Knows no Ray and no trial store."""
