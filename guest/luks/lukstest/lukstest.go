// Package lukstest writes LUKS2 headers, right or wrong, for tests of what reads them. Its headers have the
// form that cryptsetup gives them, and no key opens them.
package lukstest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
)

// Volume is the description of a header; Valid returns one to change.
type Volume struct {
	// JSON is the JSON area of both copies; JSON2, if it is not empty, that of the second.
	JSON, JSON2 string
	// HeaderBytes is the size of one copy.
	HeaderBytes int
	// SeqIDs are the sequence ids of the copies.
	SeqIDs [2]uint64
	// UUID is the volume's.
	UUID string
	// Bytes is the size of the device.
	Bytes int
	// Patch changes a copy's bytes before its checksum is made.
	Patch func(index int, copy []byte)
	// BadSum spoils the checksum of the copy of this index plus one; 0 spoils none.
	BadSum int
}

// Valid is a volume with authenticated sectors, as cryptsetup luksFormat --integrity hmac-sha256 makes it.
func Valid() Volume {
	return Volume{JSON: validJSON, HeaderBytes: 16384, SeqIDs: [2]uint64{3, 3}, UUID: "687e11b5-2500-41c5-8605-f22b9b4507c5", Bytes: 4 << 20}
}

// With is the volume with parts of its JSON replaced: pairs of old and new text. It panics if an old text
// does not occur in it exactly once, because then the test tests something else than it says.
func (v Volume) With(pairs ...string) Volume {
	for i := 0; i < len(pairs); i += 2 {
		if n := strings.Count(v.JSON, pairs[i]); n != 1 {
			panic(fmt.Sprintf("%q occurs %d times in the header's JSON", pairs[i], n))
		}
		v.JSON = strings.Replace(v.JSON, pairs[i], pairs[i+1], 1)
	}
	return v
}

// Image is the device: header, key slot, and data of zeros.
func (v Volume) Image() []byte {
	image := make([]byte, v.Bytes)
	v.Rewrite(image)
	for i := 2 * v.HeaderBytes; i < min(2*v.HeaderBytes+385024, len(image)); i++ {
		image[i] = byte(i * 7) // what a key slot holds looks random; this need not
	}
	return image
}

// Rewrite writes the header alone, over that of an image of the same size.
func (v Volume) Rewrite(image []byte) {
	second := v.JSON
	if v.JSON2 != "" {
		second = v.JSON2
	}
	clear(image[:2*v.HeaderBytes])
	v.write(image[:v.HeaderBytes], 0, v.JSON)
	v.write(image[v.HeaderBytes:2*v.HeaderBytes], 1, second)
}

// Reader reads the device.
func (v Volume) Reader() *bytes.Reader { return bytes.NewReader(v.Image()) }

func (v Volume) write(to []byte, index int, json string) {
	copy(to, [2]string{"LUKS\xba\xbe", "SKUL\xba\xbe"}[index])
	binary.BigEndian.PutUint16(to[6:], 2)
	binary.BigEndian.PutUint64(to[8:], uint64(v.HeaderBytes))
	binary.BigEndian.PutUint64(to[16:], v.SeqIDs[index])
	copy(to[72:], "sha256")
	for i := range 64 {
		to[104+i] = byte(i + index)
	}
	copy(to[168:], v.UUID)
	binary.BigEndian.PutUint64(to[256:], uint64(index*v.HeaderBytes))
	copy(to[4096:], json)
	if v.Patch != nil {
		v.Patch(index, to)
	}
	sum := sha256.Sum256(to)
	if v.BadSum == index+1 {
		sum[0]++
	}
	copy(to[448:], sum[:])
}

const validJSON = `{
"keyslots":{"0":{"type":"luks2","key_size":96,
 "af":{"type":"luks1","stripes":4000,"hash":"sha256"},
 "area":{"type":"raw","offset":"32768","size":"385024","encryption":"aes-xts-plain64","key_size":64},
 "kdf":{"type":"pbkdf2","hash":"sha256","iterations":1000,"salt":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}},
"tokens":{},
"segments":{"0":{"type":"crypt","offset":"2097152","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096,
 "integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}}},
"digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1001,
 "salt":"IAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","digest":"QAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}},
"config":{"json_size":"12288","keyslots_size":"1048576"}}`
