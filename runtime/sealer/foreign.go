package sealer

import (
	"bytes"
	"encoding/binary"
	"io"
)

// foreign are beginnings of files that people pass in place of a model: Git LFS (its
// docs/spec.md), gzip (RFC 1952, 2.3), ZIP and pickles, as PyTorch writes (Python's pickletools,
// PROTO), HDF5 (its format specification, "Signature"), and what llama.cpp read before GGUF.
var foreign = []struct{ begins, is string }{
	{"version https://git-lfs.github.com/spec/", "a Git LFS pointer, which stands for the model: `git lfs pull` fetches the file itself"},
	{"<!DOCTYPE", "a web page, perhaps what a download answered in place of the model"},
	{"<!doctype", "a web page, perhaps what a download answered in place of the model"},
	{"<html", "a web page, perhaps what a download answered in place of the model"},
	{"\x1f\x8b", "a compressed file: unpack it with gunzip"},
	{"PK\x03\x04", "a ZIP archive, as PyTorch writes them" + fromPyTorch},
	{"\x80\x02", "a Python pickle, as PyTorch writes them" + fromPyTorch},
	{"\x89HDF\r\n", "an HDF5 file, as Keras writes them: tf2onnx makes an ONNX file of a classifier"},
	{"lmgg", beforeGGUF}, {"fmgg", beforeGGUF}, {"tjgg", beforeGGUF},
}

const (
	fromPyTorch = ": llama.cpp's convert_hf_to_gguf.py makes a GGUF file of a language model, torch.onnx.export an ONNX file of a classifier"
	beforeGGUF  = "a GGML file, from the time before GGUF: download or convert the model again"
)

// Foreign says what a file is that is no model, and what makes one of it; "" if its first bytes
// do not tell.
func Foreign(in io.ReaderAt, size int64) string {
	if size == 0 {
		return "an empty file"
	}
	head := make([]byte, 48)
	n, _ := in.ReadAt(head, 0) // a short file has a short beginning
	head = head[:n]
	for _, f := range foreign {
		if bytes.HasPrefix(head, []byte(f.begins)) {
			return f.is
		}
	}
	// Eight bytes with the length of a JSON object, and the object (README of safetensors, "Format").
	if len(head) > 8 && head[8] == '{' && binary.LittleEndian.Uint64(head) <= uint64(size-8) {
		return "a safetensors file: llama.cpp's convert_hf_to_gguf.py makes a GGUF file of the directory that it lies in"
	}
	return ""
}
