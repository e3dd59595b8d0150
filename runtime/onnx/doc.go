// Package onnx reads ONNX files, as they were written, into memory.
//
// It guarantees that a file is parsed within the named limits, whatever it holds, and that
// a tensor has the values that its shape says. It trusts nothing in a file; weights that
// PyTorch's exporter keeps in a second file are read from the same directory only. It
// refuses fields that it does not know, graphs within graphs, and number formats other than
// 32 and 64 bits. What the operators mean is runtime/layers' to know.
package onnx
