package main

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestVariablesAreAddedBehindOthers(t *testing.T) {
	store := bytes.Repeat([]byte{0xff}, 1024)
	binary.LittleEndian.PutUint16(store[0x30:], 0x48)
	one, err := withVariable(bytes.Clone(store), "One", "a")
	if err != nil {
		t.Fatal(err)
	}
	two, err := withVariable(bytes.Clone(one), "Two", "b")
	if err != nil {
		t.Fatal(err)
	}
	const first, size = 0x48 + 28, 60 + 8 + 4
	if !bytes.Equal(two[:first+size], one[:first+size]) || binary.LittleEndian.Uint16(two[first+size:]) != 0x55aa || !bytes.Contains(two[first+size:], []byte("T\x00w\x00o\x00\x00\x00b\x00\x00\x00")) {
		t.Errorf("got %x", two)
	}
	if _, err := withVariable(store[:first+60], "One", "a"); err == nil {
		t.Error("a store without room takes a variable")
	}
}
