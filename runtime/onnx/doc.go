// Package onnx reads ONNX files, as they were written, into memory.
//
// It guarantees that a file is parsed within the named limits, whatever it holds, and that
// a tensor has the values that its shape says. It trusts nothing in a file; weights that
// PyTorch's exporter keeps in a second file are read from the same directory only. It
// refuses fields that it does not know, each refusal with a reason. It does not read graphs
// within graphs, nor values of other types than 32 and 64 bits, bool and strings: nodes and
// tensors that have them are there, without them, for runtime/layers to refuse by their
// operators' names. What operators mean is that package's to know.
package onnx
