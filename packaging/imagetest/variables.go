package main

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"unicode/utf16"
)

// variables are the firmware's in a machine that is new.
func (h *host) variables() string {
	return filepath.Join(h.work.Tree(), "usr/share/OVMF/OVMF_VARS_4M.fd")
}

// withVariable adds a variable of systemd's vendor id, with a text, to a store of OVMF's (edk2, VariableFormat.h), as any
// host can: the store is a file of its own.
func withVariable(store []byte, name, text string) ([]byte, error) {
	const (
		lengthAt, storeBytes, headerBytes = 0x30, 28, 60
		marker, added                     = 0x55aa, 0x3f
		everywhere                        = 7 // non-volatile, for boot services and for the system
		vendor                            = "\x4b\x64\xf2\x8c\x2b\x4b\x8f\x42\x93\x87\x6d\x87\x60\x50\xdc\x67"
	)
	le := binary.LittleEndian
	if len(store) < lengthAt+2 {
		return nil, errors.New("no store of variables")
	}
	at := int(le.Uint16(store[lengthAt:])) + storeBytes
	for at+headerBytes <= len(store) && le.Uint16(store[at:]) == marker {
		at = (at + headerBytes + int(le.Uint32(store[at+36:])) + int(le.Uint32(store[at+40:])) + 3) &^ 3
	}
	wide := func(s string) (b []byte) {
		for _, u := range utf16.Encode([]rune(s + "\x00")) {
			b = le.AppendUint16(b, u)
		}
		return b
	}
	header := make([]byte, headerBytes)
	le.PutUint16(header, marker)
	header[2] = added
	le.PutUint32(header[4:], everywhere)
	le.PutUint32(header[36:], uint32(len(wide(name))))
	le.PutUint32(header[40:], uint32(len(wide(text))))
	copy(header[44:], vendor)
	entry := append(append(header, wide(name)...), wide(text)...)
	if at+len(entry) > len(store) {
		return nil, errors.New("the store of variables is full")
	}
	copy(store[at:], entry)
	return store, nil
}
