# Dequantizes rows by gguf-py. Arguments: TYPE=BYTES ...; standard input: the bytes, one type
# after the other; standard output: their values as float32.
import sys

import gguf
import numpy

for arg in sys.argv[1:]:
    name, size = arg.split("=")
    blocks = numpy.frombuffer(sys.stdin.buffer.read(int(size)), numpy.uint8)
    values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
    sys.stdout.buffer.write(values.astype("<f4").tobytes())
