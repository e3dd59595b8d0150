package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/crypto/vectortest"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

var update = flag.Bool("update", false, "write vectors that are missing")

var made = time.UnixMilli(1_800_000_000_123).UTC()

func key(tb testing.TB, text string) collateral.Key {
	tb.Helper()
	k, err := collateral.ParseKey(text)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func signer(tb testing.TB) *identity.Private {
	tb.Helper()
	k, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(k.Wipe)
	return k
}

// items are some, by key. Their documents are what no vendor signed: nobody looks at them here.
func items(tb testing.TB) map[collateral.Key]collateral.Item {
	all := map[collateral.Key]collateral.Item{}
	for name, docs := range map[string][]string{"amd-vcek/Turin/00112233445566ff/0102030405": {"vcek"}, "amd-crl/Milan": {"list"}, "amd-chain/Milan/vcek": {"ask", "ark"},
		"intel-tdx/90c06f000000/platform/standard": {"1", "2", "3", "4", "5", "6", "7"}} {
		it := collateral.Item{Key: key(tb, name), Fetched: time.Unix(1_799_999_999, 0).UTC()}
		for _, d := range docs {
			it.Documents = append(it.Documents, []byte(d))
		}
		all[it.Key] = it
	}
	return all
}

func write(tb testing.TB, all map[collateral.Key]collateral.Item, by *identity.Private) []byte {
	tb.Helper()
	var keys []collateral.Key
	for k := range all {
		keys = append(keys, k)
	}
	var b bytes.Buffer
	if _, err := Write(&b, keys, func(k collateral.Key) (collateral.Item, error) { return all[k], nil }, by, made); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func read(raw []byte, trusted ...identity.Public) (order []string, l List, err error) {
	l, err = Read(bytes.NewReader(raw), trusted, func(it collateral.Item) error {
		order = append(order, it.Key.String())
		return nil
	})
	return order, l, err
}

func TestABundleBringsItsItemsInOrder(t *testing.T) {
	by := signer(t)
	raw := write(t, items(t), by)
	order, l, err := read(raw, signer(t).Public(), by.Public())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"amd-chain/Milan/vcek", "amd-crl/Milan", "intel-tdx/90c06f000000/platform/standard", "amd-vcek/Turin/00112233445566ff/0102030405"}
	if !slices.Equal(order, want) || !l.Made.Equal(made) || !l.Signer.Equal(by.Public()) || len(l.Entries) != 4 {
		t.Errorf("%v, %+v", order, l.Made)
	}
	if _, err := Read(iotest.OneByteReader(bytes.NewReader(raw)), []identity.Public{by.Public()}, func(collateral.Item) error { return nil }); err != nil {
		t.Errorf("byte by byte: %v", err)
	}
	stop := errors.New("stop")
	if _, err := Read(bytes.NewReader(raw), []identity.Public{by.Public()}, func(collateral.Item) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func TestBundlesOfStrangersAreRefused(t *testing.T) {
	by := signer(t)
	raw := write(t, items(t), by)
	for what, trusted := range map[string][]identity.Public{"nobody": nil, "another": {signer(t).Public()}, "the zero value": {{}}} {
		order, _, err := read(raw, trusted...)
		if refusaltest.Want(t, what, err, collateral.ReasonBundleSigner); order != nil {
			t.Errorf("%s: items were handed over: %v", what, order)
		}
	}
}

// TestEveryByteOfABundleCounts: of the list by the signature, of items by their digests.
func TestEveryByteOfABundleCounts(t *testing.T) {
	by := signer(t)
	raw := write(t, items(t), by)
	for at := range raw {
		if at > 400 && at%7 != 0 && at < len(raw)-300 {
			continue // of keys and signatures some
		}
		changed := bytes.Clone(raw)
		changed[at] ^= 1
		if _, _, err := read(changed, by.Public()); err == nil {
			t.Fatalf("byte %d of %d changed: accepted", at, len(raw))
		}
		if _, _, err := read(raw[:at], by.Public()); err == nil {
			t.Fatalf("cut to %d of %d bytes: accepted", at, len(raw))
		}
	}
	_, _, err := read(append(bytes.Clone(raw), 0), by.Public())
	refusaltest.Want(t, "a byte more", err, collateral.ReasonBundle)
}

// signed is a bundle of a list that a signer signed, whatever it holds.
func signed(tb testing.TB, by *identity.Private, head []byte, bodies ...[]byte) []byte {
	tb.Helper()
	sig, err := by.Sign(Context, head)
	if err != nil {
		tb.Fatal(err)
	}
	return slices.Concat(head, binary.BigEndian.AppendUint16(nil, uint16(len(sig))), sig, bytes.Join(bodies, nil))
}

// head is a list, written by hand.
func head(by identity.Public, keys []string, sizes []uint32, digests [][32]byte) []byte {
	b := append([]byte{byte(len(Context))}, Context...)
	b = binary.BigEndian.AppendUint64(b, uint64(made.UnixMilli()))
	b = binary.BigEndian.AppendUint16(b, uint16(len(by.Bytes())))
	b = append(b, by.Bytes()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(keys)))
	for i, k := range keys {
		b = append(append(b, byte(len(k))), k...)
		b = binary.BigEndian.AppendUint32(b, sizes[i])
		b = append(b, digests[i][:]...)
	}
	return b
}

// TestSignedNonsenseIsRefused: a signature makes no list good.
func TestSignedNonsenseIsRefused(t *testing.T) {
	by := signer(t)
	list, err := items(t)[key(t, "amd-crl/Milan")].Marshal()
	if err != nil {
		t.Fatal(err)
	}
	sum, size := sha256.Sum256(list), uint32(len(list))
	one := func(k string, size uint32, body []byte) []byte {
		return signed(t, by, head(by.Public(), []string{k}, []uint32{size}, [][32]byte{sha256.Sum256(body)}), body)
	}
	two := func(a, b string) []byte {
		return signed(t, by, head(by.Public(), []string{a, b}, []uint32{size, size}, [][32]byte{sum, sum}), list, list)
	}
	many := head(by.Public(), nil, nil, nil)
	binary.BigEndian.PutUint32(many[len(many)-4:], MaxItems+1)
	for what, c := range map[string]struct {
		raw    []byte
		reason refusal.Reason
	}{
		"good":                     {one("amd-crl/Milan", size, list), ""},
		"none":                     {signed(t, by, head(by.Public(), nil, nil, nil)), ""},
		"of another key":           {one("amd-crl/Genoa", size, list), collateral.ReasonBundle},
		"of no key":                {one("amd-crl/Rome", size, list), collateral.ReasonKey},
		"a body that is no item":   {one("amd-crl/Milan", 4, []byte("list")), collateral.ReasonMalformed},
		"a large item":             {one("amd-crl/Milan", collateral.MaxItemBytes+1, list), collateral.ReasonTooLarge},
		"twice":                    {two("amd-crl/Milan", "amd-crl/Milan"), collateral.ReasonBundle},
		"in another order":         {two("amd-crl/Milan", "amd-crl/Genoa"), collateral.ReasonBundle},
		"kinds in another order":   {two("amd-crl/Milan", "amd-chain/Milan/vcek"), collateral.ReasonBundle},
		"more than may be":         {signed(t, by, many), collateral.ReasonBundle},
		"an identity that is none": {append([]byte{byte(len(Context))}, append([]byte(Context), 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 9, 0, 0, 0, 0)...), collateral.ReasonBundle},
		"another version":          {append([]byte{byte(len(Context))}, "anchorhold/collateral/bundle/2"...), collateral.ReasonBundle},
		"a longer label":           {append([]byte{200}, make([]byte, 200)...), collateral.ReasonBundle},
		"nothing":                  {nil, collateral.ReasonBundle},
		"signed for something else": {func() []byte {
			h := head(by.Public(), nil, nil, nil)
			s, _ := by.Sign("anchorhold/other/1", h)
			return append(binary.BigEndian.AppendUint16(h, uint16(len(s))), s...)
		}(), collateral.ReasonBundleSigner},
	} {
		_, _, err := read(c.raw, by.Public())
		refusaltest.Want(t, what, err, c.reason)
	}
}

func TestWhatCannotBeExportedIsNot(t *testing.T) {
	by, all := signer(t), items(t)
	k := key(t, "amd-crl/Milan")
	lost := errors.New("lost")
	if _, err := Write(io.Discard, []collateral.Key{k}, func(collateral.Key) (collateral.Item, error) { return collateral.Item{}, lost }, by, made); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
	calls := 0
	if _, err := Write(io.Discard, []collateral.Key{k}, func(collateral.Key) (collateral.Item, error) {
		calls++
		it := all[k]
		it.Fetched = it.Fetched.Add(time.Duration(calls) * time.Second)
		return it, nil
	}, by, made); err == nil {
		t.Error("an item that changed meanwhile was exported")
	}
	_, err := Write(io.Discard, []collateral.Key{k, k}, func(k collateral.Key) (collateral.Item, error) { return all[k], nil }, by, made)
	refusaltest.Want(t, "twice", err, collateral.ReasonBundle)
}

func FuzzRead(f *testing.F) {
	seed, err := keybuf.Take(make([]byte, identity.SeedSize)) // all workers have the same
	if err != nil {
		f.Fatal(err)
	}
	by, err := identity.FromSeed(identity.LevelEpoch, seed)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(by.Wipe)
	f.Add(write(f, items(f), by))
	f.Add(write(f, nil, by))
	f.Add(head(by.Public(), nil, nil, nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _, _ = read(raw, by.Public()) // must not panic
	})
}

// TestVector: another implementation reads and refuses what this one does.
func TestVector(t *testing.T) {
	type entry struct {
		Key       string           `json:"key"`
		Fetched   int64            `json:"fetched"`
		Documents []vectortest.Hex `json:"documents"`
	}
	v := vectortest.Load(t, "bundle-1", *update, func() vectortest.Vector {
		by, all := signer(t), items(t)
		raw := write(t, all, by)
		_, l, err := read(raw, by.Public())
		if err != nil {
			t.Fatal(err)
		}
		list, err := l.marshal()
		if err != nil {
			t.Fatal(err)
		}
		var fields struct {
			Made  int64   `json:"made"`
			Items []entry `json:"items"`
		}
		fields.Made = l.Made.UnixMilli()
		for _, e := range l.Entries {
			it := entry{Key: e.Key.String(), Fetched: all[e.Key].Fetched.Unix()}
			for _, d := range all[e.Key].Documents {
				it.Documents = append(it.Documents, d)
			}
			fields.Items = append(fields.Items, it)
		}
		encoded, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		n := int(binary.BigEndian.Uint16(raw[len(list):]))
		v := vectortest.Vector{About: "a bundle of four items whose documents no vendor signed", Specification: "package keybroker/collateral/bundle", Context: Context,
			PublicKeys: map[string]vectortest.Hex{"signer": by.Public().Bytes()}, Fields: encoded, Signed: list, Signature: raw[len(list)+2 : len(list)+2+n], Statement: raw, Verdict: vectortest.Accepted}
		edit := func(about string, at int, reason refusal.Reason) {
			v.Refused = append(v.Refused, vectortest.Refused{About: about, Edit: &vectortest.Edit{Offset: at, Remove: 1, Insert: vectortest.Hex{raw[at] ^ 1}}, Reason: string(reason)})
		}
		edit("a bit of the Ed25519 half of the signature is flipped", len(list)+2+n-1, collateral.ReasonBundleSigner)
		edit("a bit of the ML-DSA half of the signature is flipped", len(list)+2+n-164, collateral.ReasonBundleSigner)
		edit("the list's date is changed", 1+len(Context)+7, collateral.ReasonBundleSigner)
		edit("a digest of the list is changed", len(list)-1, collateral.ReasonBundleSigner)
		edit("the last item is changed", len(raw)-1, collateral.ReasonBundle)
		v.Refused = append(v.Refused, vectortest.Refused{About: "the last byte is missing", Edit: &vectortest.Edit{Offset: len(raw) - 1, Remove: 1, Insert: vectortest.Hex{}}, Reason: string(collateral.ReasonBundle)},
			vectortest.Refused{About: "a byte follows", Edit: &vectortest.Edit{Offset: len(raw), Insert: vectortest.Hex{0}}, Reason: string(collateral.ReasonBundle)})
		return v
	})
	public, err := identity.ParsePublic(v.PublicKeys["signer"])
	if err != nil {
		t.Fatal(err)
	}
	var fields struct {
		Made  int64
		Items []entry
	}
	if err := json.Unmarshal(v.Fields, &fields); err != nil {
		t.Fatal(err)
	}
	l := List{Made: time.UnixMilli(fields.Made).UTC(), Signer: public}
	var bodies []byte
	for _, e := range fields.Items {
		it := collateral.Item{Key: key(t, e.Key), Fetched: time.Unix(e.Fetched, 0).UTC()}
		for _, d := range e.Documents {
			it.Documents = append(it.Documents, d)
		}
		data, err := it.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		l.Entries = append(l.Entries, Entry{it.Key, uint32(len(data)), sha256.Sum256(data)})
		bodies = append(bodies, data...)
	}
	list, err := l.marshal()
	if err != nil {
		t.Fatal(err)
	}
	v.Rebuilt(t, list, slices.Concat(list, binary.BigEndian.AppendUint16(nil, uint16(len(v.Signature))), v.Signature, bodies))
	v.Verify(t, func(statement []byte, _ uint64) error {
		_, _, err := read(statement, public)
		return err
	})
}
