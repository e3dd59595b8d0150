package luks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/guest/luks/lukstest"
)

func ExampleRead() {
	disk := lukstest.Valid().Reader()
	h, err := Read(disk, Options{DeviceBytes: disk.Size()})
	fmt.Println(h.UUID(), h.Cipher(), err)

	plaintext := lukstest.Valid().With(`"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64"`, `"dynamic","iv_tweak":"0","encryption":"cipher_null-ecb"`)
	_, err = Read(plaintext.Reader(), Options{})
	fmt.Println(err)
	// Output:
	// 687e11b5-2500-41c5-8605-f22b9b4507c5 aes-xts-plain64, hmac(sha256) <nil>
	// luks-cipher: data encrypted with "cipher_null-ecb", integrity "hmac(sha256)"
}

const (
	slotArea  = `"size":"385024","encryption":"aes-xts-plain64","key_size":64`
	slotKDF   = `"kdf":{"type":"pbkdf2","hash":"sha256","iterations":1000,`
	dataPart  = `"offset":"2097152","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096`
	integral  = `"integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}`
	digestOf  = `"keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1001`
	configEnd = `"keyslots_size":"1048576"}`
)

// argon is the replacement of the key slot's derivation.
func argon(time, memory, cpus int) []string {
	return []string{slotKDF, fmt.Sprintf(`"kdf":{"type":"argon2id","time":%d,"memory":%d,"cpus":%d,`, time, memory, cpus)}
}

// unauthenticated are the replacements that make a volume of plain XTS.
var unauthenticated = []string{",\n " + integral, "", `"key_size":96`, `"key_size":64`, `"size":"385024"`, `"size":"258048"`}

// Each case changes one thing about a valid header. The first ones are published attacks on confidential VMs.
func TestHostileHeadersAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change []string
		want   refusal.Reason
	}{
		// The null cipher in the key slot: every passphrase opens it, and the host knows the volume key.
		"null cipher of the key slot": {[]string{slotArea, `"size":"385024","encryption":"cipher_null-ecb","key_size":64`}, ReasonCipher},
		// The null cipher for the data: the guest writes plaintext.
		"null cipher of the data":     {[]string{dataPart, strings.Replace(dataPart, "aes-xts-plain64", "cipher_null-ecb", 1)}, ReasonCipher},
		"null cipher by kernel name":  {[]string{dataPart, strings.Replace(dataPart, "aes-xts-plain64", "capi:ecb(cipher_null)-null", 1)}, ReasonCipher},
		"known cipher by kernel name": {[]string{dataPart, strings.Replace(dataPart, "aes-xts-plain64", "capi:xts(aes)-plain64", 1)}, ReasonCipher},
		"ECB":                         {[]string{dataPart, strings.Replace(dataPart, "aes-xts-plain64", "aes-ecb", 1)}, ReasonCipher},
		"CBC":                         {[]string{dataPart, strings.Replace(dataPart, "aes-xts-plain64", "aes-cbc-plain64", 1)}, ReasonCipher},
		"authentication without key":  {[]string{`"type":"hmac(sha256)"`, `"type":"crc32c"`}, ReasonCipher},
		"no authentication":           {unauthenticated, ReasonUnauthenticated},
		"another accepted cipher":     {[]string{dataPart, strings.Replace(dataPart, "aes-xts-plain64", "aes-gcm-random", 1), "hmac(sha256)", "aead"}, ReasonKeyslot},
		// CVE-2021-4122: a decryption that seems to have been interrupted.
		"unfinished decryption": {[]string{configEnd, `"keyslots_size":"1048576","requirements":{"mandatory":["online-reencrypt-v2"]}}`}, ReasonRequirements},
		"flags":                 {[]string{configEnd, `"keyslots_size":"1048576","flags":["allow-discards"]}`}, ReasonRequirements},
		"no flags, written out": {[]string{configEnd, `"keyslots_size":"1048576","flags":[]}`}, ReasonRequirements},
		"linear segment":        {[]string{`"type":"crypt"`, `"type":"linear"`}, ReasonSegment},
		"hardware encryption":   {[]string{`"type":"crypt"`, `"type":"hw-opal-crypt"`}, ReasonSegment},
		"re-encryption slot":    {[]string{`"0":{"type":"luks2"`, `"0":{"type":"reencrypt"`}, ReasonKeyslot},
		"backup segment": {[]string{`"segments":{"0":{`, `"segments":{"1":{"type":"linear","offset":"2097152","size":"dynamic","flags":["backup-final"]},"0":{`},
			ReasonSegment},
		"segment of another name": {[]string{`"segments":{"0":{`, `"segments":{"1":{`}, ReasonSegment},
		"segment's flags":         {[]string{dataPart, dataPart + `,"flags":["in-reencryption"]`}, ReasonSegment},
		"tweak":                   {[]string{`"iv_tweak":"0"`, `"iv_tweak":"8"`}, ReasonSegment},
		"sector size":             {[]string{`"sector_size":4096`, `"sector_size":8192`}, ReasonSegment},
		"journal":                 {[]string{`"journal_integrity":"none"`, `"journal_integrity":"hmac(sha256)"`}, ReasonSegment},
		"encrypted journal":       {[]string{`"journal_encryption":"none"`, `"journal_encryption":"ctr(aes)"`}, ReasonSegment},
		"empty integrity":         {[]string{`"type":"hmac(sha256)"`, `"type":""`}, ReasonSegment},
		// A token names a plugin that cryptsetup would load, or another way to the key.
		"token": {[]string{`"tokens":{}`, `"tokens":{"0":{"type":"systemd-tpm2","keyslots":["0"]}}`}, ReasonToken},

		"second key slot":        {[]string{`"keyslots":{"0":{`, `"keyslots":{"1":{"type":"luks2","key_size":96},"0":{`}, ReasonKeyslot},
		"slot of another name":   {[]string{`"keyslots":{"0":{`, `"keyslots":{"7":{`}, ReasonKeyslot},
		"no key":                 {[]string{`"key_size":96`, `"key_size":0`}, ReasonKeyslot},
		"priority":               {[]string{`"key_size":96`, `"key_size":96,"priority":2`}, ReasonKeyslot},
		"stripes":                {[]string{`"stripes":4000`, `"stripes":1000000000`}, ReasonKeyslot},
		"few stripes":            {[]string{`"stripes":4000`, `"stripes":1`}, ReasonKeyslot},
		"splitter":               {[]string{`"type":"luks1"`, `"type":"none"`}, ReasonKeyslot},
		"splitter's hash":        {[]string{`"stripes":4000,"hash":"sha256"`, `"stripes":4000,"hash":"crc32"`}, ReasonKeyslot},
		"area's type":            {[]string{`"type":"raw"`, `"type":"datashift"`}, ReasonKeyslot},
		"slot's short key":       {[]string{slotArea, `"size":"385024","encryption":"aes-xts-plain64","key_size":32`}, ReasonCipher},
		"derivation":             {[]string{slotKDF, `"kdf":{"type":"scrypt",`}, ReasonKeyslot},
		"PBKDF2's hash":          {[]string{slotKDF, `"kdf":{"type":"pbkdf2","hash":"md5","iterations":1000,`}, ReasonKeyslot},
		"PBKDF2 with memory":     {[]string{slotKDF, slotKDF + `"memory":1,`}, ReasonKeyslot},
		"Argon2 with iterations": {[]string{slotKDF, `"kdf":{"type":"argon2id","iterations":1,"time":4,"memory":1024,"cpus":1,`}, ReasonKeyslot},
		"short salt":             {[]string{`"salt":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="`, `"salt":"AAECAw=="`}, ReasonKeyslot},

		"iterations":      {[]string{`"iterations":1000,`, fmt.Sprintf(`"iterations":%d,`, MaxIterations+1)}, ReasonCost},
		"no iterations":   {[]string{`"iterations":1000,`, `"iterations":-1,`}, ReasonCost},
		"memory":          {argon(1, MaxArgonKiB+1, 1), ReasonCost},
		"no memory":       {argon(1, 0, 1), ReasonCost},
		"passes":          {argon(MaxArgonCost/1024+1, 1024, 1), ReasonCost},
		"no passes":       {argon(0, 1024, 1), ReasonCost},
		"lanes":           {argon(1, 1024, MaxArgonLanes+1), ReasonCost},
		"no lanes":        {argon(1, 1024, 0), ReasonCost},
		"digest's cost":   {[]string{`"iterations":1001`, fmt.Sprintf(`"iterations":%d`, MaxIterations+1)}, ReasonCost},
		"digest's none":   {[]string{`"iterations":1001`, `"iterations":0`}, ReasonCost},
		"digest's type":   {[]string{`"digests":{"0":{"type":"pbkdf2"`, `"digests":{"0":{"type":"none"`}, ReasonDigest},
		"digest's hash":   {[]string{digestOf, `"keyslots":["0"],"segments":["0"],"hash":"sha1","iterations":1001`}, ReasonDigest},
		"digest's length": {[]string{digestOf, `"keyslots":["0"],"segments":["0"],"hash":"sha512","iterations":1001`}, ReasonDigest},
		"digest's salt":   {[]string{`"salt":"IAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="`, `"salt":""`}, ReasonDigest},
		"digest's slot":   {[]string{digestOf, `"keyslots":[],"segments":["0"],"hash":"sha256","iterations":1001`}, ReasonDigest},
		"digest of no segment": {[]string{digestOf, `"keyslots":["0"],"segments":[],"hash":"sha256","iterations":1001`},
			ReasonDigest},
		"second digest": {[]string{`"digests":{"0":{`, `"digests":{"1":{"type":"pbkdf2"},"0":{`}, ReasonDigest},

		"slot over the header":  {[]string{`"offset":"32768"`, `"offset":"28672"`}, ReasonSize},
		"slot over the data":    {[]string{`"offset":"32768"`, `"offset":"700416"`}, ReasonSize},
		"slot beyond the limit": {[]string{`"offset":"32768"`, `"offset":"1716224"`, configEnd, `"keyslots_size":"16744448"}`, `"2097152"`, `"16777216"`}, ReasonSize},
		"slot off its page":     {[]string{`"offset":"32768"`, `"offset":"32769"`}, ReasonSize},
		"slot's size":           {[]string{`"size":"385024"`, `"size":"389120"`}, ReasonSize},
		"slots' room":           {[]string{configEnd, fmt.Sprintf(`"keyslots_size":"%d"}`, MaxKeyslotsBytes+4096)}, ReasonSize},
		"slots off their pages": {[]string{configEnd, `"keyslots_size":"1048577"}`}, ReasonSize},
		"JSON's size":           {[]string{`"json_size":"12288"`, `"json_size":"12287"`}, ReasonSize},
		"data over the slots":   {[]string{`"offset":"2097152"`, `"offset":"1077248"`}, ReasonSize},
		"data off its page":     {[]string{`"offset":"2097152"`, `"offset":"2097153"`}, ReasonSize},
		"data beyond the disk":  {[]string{`"offset":"2097152"`, `"offset":"4194304"`}, ReasonSize},
		"more than the disk":    {[]string{`"dynamic"`, `"2101248"`}, ReasonSize},
		"no data":               {[]string{`"dynamic"`, `"0"`}, ReasonSize},
		"half a sector":         {[]string{`"dynamic"`, `"512"`}, ReasonSize},
		"size in words":         {[]string{`"dynamic"`, `"all"`}, ReasonSize},

		"unknown field":      {[]string{`"tokens":{}`, `"tokens":{},"extra":{}`}, ReasonFormat},
		"unknown slot field": {[]string{`"key_size":96`, `"key_size":96,"x":1`}, ReasonFormat},
		"number as number":   {[]string{`"offset":"32768"`, `"offset":32768`}, ReasonFormat},
		"negative number":    {[]string{`"offset":"32768"`, `"offset":"-32768"`}, ReasonFormat},
		"number with a zero": {[]string{`"offset":"32768"`, `"offset":"032768"`}, ReasonFormat},
		"huge number":        {[]string{`"offset":"32768"`, `"offset":"9223372036854775808"`}, ReasonFormat},
		"two values":         {[]string{configEnd, configEnd + "} {"}, ReasonFormat},
		"no JSON":            {[]string{`"tokens":{}`, `"tokens"`}, ReasonFormat},
	} {
		v := lukstest.Valid().With(tc.change...)
		_, err := Read(v.Reader(), Options{DeviceBytes: int64(v.Bytes)})
		refusaltest.Want(t, name, err, tc.want)
	}
}

func TestBinaryHeadersAreRefused(t *testing.T) {
	patch := func(f func(copy []byte)) func(*lukstest.Volume) {
		return func(v *lukstest.Volume) { v.Patch = func(_ int, c []byte) { f(c) } }
	}
	for name, tc := range map[string]struct {
		change func(*lukstest.Volume)
		want   refusal.Reason
	}{
		"sum of the first":  {func(v *lukstest.Volume) { v.BadSum = 1 }, ReasonChecksum},
		"sum of the second": {func(v *lukstest.Volume) { v.BadSum = 2 }, ReasonChecksum},
		"sum's algorithm":   {patch(func(c []byte) { copy(c[72:], "sha512") }), ReasonChecksum},
		// cryptsetup would take the second, whose sequence id is higher; a check of the first is then worth nothing.
		"newer second copy": {func(v *lukstest.Volume) { v.SeqIDs[1]++ }, ReasonCopies},
		"older second copy": {func(v *lukstest.Volume) { v.SeqIDs[1]-- }, ReasonCopies},
		"other second copy": {func(v *lukstest.Volume) { v.JSON2 = v.JSON + " " }, ReasonCopies},
		"second copy's UUID": {func(v *lukstest.Volume) {
			v.Patch = func(i int, c []byte) {
				if i == 1 {
					c[168] = 'a'
				}
			}
		}, ReasonCopies},
		"no second copy":     {func(v *lukstest.Volume) { v.Patch = second(func(c []byte) { clear(c) }) }, ReasonFormat},
		"second copy's size": {func(v *lukstest.Volume) { v.Patch = second(func(c []byte) { c[14] = 0x80 }) }, ReasonFormat},
		"second copy's place": {func(v *lukstest.Volume) {
			v.Patch = second(func(c []byte) { binary.BigEndian.PutUint64(c[256:], 32768) })
		}, ReasonFormat},
		"LUKS1":            {patch(func(c []byte) { c[7] = 1 }), ReasonVersion},
		"LUKS3":            {patch(func(c []byte) { c[7] = 3 }), ReasonVersion},
		"no magic":         {patch(func(c []byte) { c[0] = 'l' }), ReasonFormat},
		"copies exchanged": {patch(func(c []byte) { copy(c, "SKUL") }), ReasonFormat},
		"UUID":             {func(v *lukstest.Volume) { v.UUID = "../../../../etc/passwd" }, ReasonFormat},
		"padding":          {patch(func(c []byte) { c[264] = 1 }), ReasonFormat},
		"later fields":     {patch(func(c []byte) { c[4095] = 1 }), ReasonFormat},
		"behind the JSON":  {patch(func(c []byte) { c[len(c)-1] = 1 }), ReasonFormat},
		"JSON without end": {patch(func(c []byte) { copy(c[4096:], bytes.Repeat([]byte{' '}, len(c)-4096)) }), ReasonFormat},
		"small header":     {patch(func(c []byte) { binary.BigEndian.PutUint64(c[8:], 8192) }), ReasonSize},
		"odd header":       {patch(func(c []byte) { binary.BigEndian.PutUint64(c[8:], 20480) }), ReasonSize},
		"large header":     {patch(func(c []byte) { binary.BigEndian.PutUint64(c[8:], 2*MaxHeaderBytes) }), ReasonSize},
		"short device":     {func(v *lukstest.Volume) { v.Bytes = 32768 + 385023 }, ReasonSize},
	} {
		v := lukstest.Valid()
		tc.change(&v)
		_, err := Read(v.Reader(), Options{})
		refusaltest.Want(t, name, err, tc.want)
	}
	for _, n := range []int{0, 1, 4095, 4096, 16383, 16384, 32767} {
		_, err := Read(bytes.NewReader(lukstest.Valid().Image()[:n]), Options{})
		refusaltest.Want(t, fmt.Sprint(n, " bytes"), err, ReasonSize)
	}
}

// second patches the second copy alone.
func second(f func([]byte)) func(int, []byte) {
	return func(i int, c []byte) {
		if i == 1 {
			f(c)
		}
	}
}

func TestAcceptedHeaders(t *testing.T) {
	for name, tc := range map[string]struct {
		change []string
		permit bool
	}{
		"as it is":        {},
		"HMAC-SHA-512":    {change: []string{"hmac(sha256)", "hmac(sha512)", `"key_size":96`, `"key_size":128`, `"385024"`, `"512000"`}},
		"AES-GCM":         {change: []string{dataPart, strings.Replace(dataPart, "aes-xts-plain64", "aes-gcm-random", 1), "hmac(sha256)", "aead", `"key_size":96`, `"key_size":32`, `"385024"`, `"131072"`}},
		"AEGIS":           {change: []string{dataPart, strings.Replace(dataPart, "aes-xts-plain64", "aegis128-random", 1), "hmac(sha256)", "aead", `"key_size":96`, `"key_size":16`, `"385024"`, `"65536"`}},
		"permitted":       {change: unauthenticated, permit: true},
		"small sectors":   {change: []string{`"sector_size":4096`, `"sector_size":512`}},
		"all of the disk": {change: []string{`"dynamic"`, `"2097152"`}},
		"much PBKDF2":     {change: []string{`"iterations":1000,`, fmt.Sprintf(`"iterations":%d,`, MaxIterations)}},
		"much memory":     {change: argon(MaxArgonCost/MaxArgonKiB, MaxArgonKiB, MaxArgonLanes)},
		"many passes":     {change: argon(MaxArgonCost/8, 8, 1)},
		"last place":      {change: []string{`"offset":"32768"`, `"offset":"696320"`}},
	} {
		v := lukstest.Valid().With(tc.change...)
		h, err := Read(v.Reader(), Options{DeviceBytes: int64(v.Bytes), PermitUnauthenticated: tc.permit})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if h.Authenticated() == tc.permit {
			t.Errorf("%s: %s is said to be authenticated: %t", name, h.Cipher(), h.Authenticated())
		}
		file, err := h.Detached()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read(bytes.NewReader(file), Options{PermitUnauthenticated: tc.permit})
		if err != nil {
			t.Errorf("%s: the detached header: %v", name, err)
			continue
		}
		twice, err := again.Detached()
		if err != nil || !bytes.Equal(file, twice) || again.Cipher() != h.Cipher() || again.UUID() != h.UUID() {
			t.Errorf("%s: a detached header does not read as what it was made of (%v)", name, err)
		}
	}
}

// The lengths of the volume keys keep a host from giving a volume another accepted cipher.
func TestVolumeKeysTellCiphersApart(t *testing.T) {
	seen := map[int]string{}
	for _, p := range profiles {
		if other, taken := seen[p.keyBytes]; taken {
			t.Errorf("%s %s and %s have volume keys of %d bytes", p.encryption, p.integrity, other, p.keyBytes)
		}
		seen[p.keyBytes] = p.encryption + " " + p.integrity
	}
}

// What only the host wrote, and no check has understood, is not in the detached header.
func TestDetachedHeaderHasNothingUnchecked(t *testing.T) {
	v := lukstest.Valid().With(`"config":{`, `"config":{"json_size":"4","json_size":"4",`, `"tokens":{}`, `"TOKENS":null`)
	v.Patch = func(_ int, c []byte) { copy(c[24:], "a label"); copy(c[208:], "a subsystem") }
	h, err := Read(v.Reader(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	file, err := h.Detached()
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"a label", "a subsystem", `"4"`, "TOKENS"} {
		if bytes.Contains(file[:h.size], []byte(gone)) {
			t.Errorf("the detached header still has %q", gone)
		}
	}
	if !bytes.Contains(file[:h.size], []byte(`"tokens":{}`)) {
		t.Error("the detached header has no list of tokens")
	}
}

// changing is a disk whose host changes what was read once.
type changing struct {
	*bytes.Reader
	read map[int64]bool
	t    *testing.T
}

func (c *changing) ReadAt(p []byte, at int64) (int, error) {
	for i := range p {
		if c.read[at+int64(i)] {
			c.t.Errorf("byte %d was read a second time", at+int64(i))
			break
		}
	}
	for i := range p {
		c.read[at+int64(i)] = true
	}
	return c.Reader.ReadAt(p, at)
}

func TestNothingIsReadTwice(t *testing.T) {
	disk := &changing{lukstest.Valid().Reader(), map[int64]bool{}, t}
	h, err := Read(disk, Options{DeviceBytes: disk.Size()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Detached(); err != nil {
		t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	refusaltest.Want(t, "authenticated", Check(lukstest.Valid().Reader(), false), "")
	plain := lukstest.Valid().With(unauthenticated...)
	refusaltest.Want(t, "not permitted", Check(plain.Reader(), false), ReasonUnauthenticated)
	refusaltest.Want(t, "permitted", Check(plain.Reader(), true), "")
}

func TestZero(t *testing.T) {
	disk := make([]byte, 200<<10)
	for _, tc := range []struct {
		dirty, n int
		want     bool
	}{{-1, 200 << 10, true}, {0, 1, false}, {199 << 10, 200 << 10, false}, {199 << 10, 199 << 10, true}, {70000, 100 << 10, false}} {
		if tc.dirty >= 0 {
			disk[tc.dirty] = 1
		}
		got, err := Zero(bytes.NewReader(disk), int64(tc.n))
		if err != nil || got != tc.want {
			t.Errorf("first %d bytes, byte %d set: got %t, %v", tc.n, tc.dirty, got, err)
		}
		clear(disk)
	}
	_, err := Zero(bytes.NewReader(disk), 200<<10+1)
	refusaltest.Want(t, "beyond the end", err, ReasonSize)
}

type failing struct{}

var errDisk = errors.New("I/O error")

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

// A disk that fails is no bad header: nobody may format it for that.
func TestDiskErrorIsNoRefusal(t *testing.T) {
	_, err := Read(failing{}, Options{})
	if _, refused := refusal.ReasonOf(err); refused || !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
	if _, err := Zero(failing{}, 1); !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
}

// What is accepted is bounded, and reads again as itself.
// edited is a text after edits: of each, where it begins (two bytes), how many bytes it takes out, how many it puts
// in, and these. Every text is some edits of the empty one.
func edited(text, edits []byte) []byte {
	for len(edits) >= 4 {
		at := min(int(binary.BigEndian.Uint16(edits)), len(text))
		end := min(at+int(edits[2]), len(text))
		put := edits[4:min(4+int(edits[3]), len(edits))]
		text = slices.Concat(text[:at], put, text[end:])
		edits = edits[4+len(put):]
	}
	return text
}

// FuzzRead takes edits of a few headers, and not whole ones: whenever an input is new, the fuzzing driver tries to leave
// out each part of it from each byte to each other one. Of a header of 1,300 bytes those are 800,000 parts, and it did nothing else.
func FuzzRead(f *testing.F) {
	bases := []string{"", lukstest.Valid().JSON, lukstest.Valid().With(unauthenticated...).JSON, lukstest.Valid().With(argon(4, 1024, 4)...).JSON}
	f.Add(byte(0), []byte("\x00\x00\x00\x02{}"), []byte(nil))
	f.Add(byte(1), []byte(nil), []byte(nil))
	f.Add(byte(2), []byte("\x00\x10\x01\x011"), []byte("\x00\x011\x00\x022"))
	f.Add(byte(3), []byte(nil), []byte(nil))
	volume := lukstest.Valid()
	volume.Bytes = 432 << 10
	image := volume.Image()
	// fields are three bytes each: where in the binary header, and what the byte there differs by.
	f.Fuzz(func(t *testing.T, base byte, edits, fields []byte) {
		if len(edits) > 128 || len(fields) > 48 {
			return
		}
		v := volume
		v.JSON = string(edited([]byte(bases[int(base)%len(bases)]), edits))
		v.Patch = func(_ int, c []byte) {
			for f := range slices.Chunk(fields, 3) {
				if len(f) == 3 {
					c[int(binary.BigEndian.Uint16(f))%512] ^= f[2]
				}
			}
		}
		v.Rewrite(image)
		h, err := Read(bytes.NewReader(image), Options{PermitUnauthenticated: true})
		if err != nil {
			if _, refused := refusal.ReasonOf(err); !refused {
				t.Fatalf("no reason: %v", err)
			}
			return
		}
		file, err := h.Detached()
		if err != nil {
			return // it is longer than what it was made of
		}
		if len(file) > MaxDetachedBytes {
			t.Fatalf("%d bytes", len(file))
		}
		if err := Check(bytes.NewReader(file), true); err != nil {
			t.Fatalf("what was accepted is refused: %v", err)
		}
	})
}
