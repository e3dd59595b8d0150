package snp

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/guest/tsm/tsmtest"
)

// tree is configfs-tsm in memory with an SEV-SNP guest's driver.
type tree struct {
	*tsmtest.Tree
	vlek bool
	// answer changes a report before it is returned.
	answer func(report []byte) []byte
}

func newTree() *tree {
	t := &tree{}
	t.Tree = tsmtest.New("sev_guest", func(inblob []byte, privilege uint) ([]byte, error) {
		report := reportOver(inblob, uint32(privilege), t.vlek)
		if t.answer != nil {
			report = t.answer(report)
		}
		return report, nil
	})
	t.Levels = true
	return t
}

// reportOver is a report that nobody signed.
func reportOver(reportData []byte, vmpl uint32, vlek bool) []byte {
	data := make([]byte, 1184)
	binary.LittleEndian.PutUint32(data, 3)
	binary.LittleEndian.PutUint32(data[0x30:], vmpl)
	copy(data[0x50:], reportData)
	if vlek {
		data[0x48] = 1 << 2
	}
	return data
}

// realTable is a host's certificate table from a real machine.
func realTable(tb testing.TB) []byte {
	tb.Helper()
	return evidencetest.Read(tb, "snp", "11-genoa-v3-tsm-veraison", "auxblob.bin")
}

// table builds a certificate table from GUIDs and contents.
func table(entries ...string) []byte {
	head := make([]byte, (len(entries)/2+1)*entrySize)
	var body []byte
	for i := 0; i < len(entries); i += 2 {
		e := head[i/2*entrySize:]
		copy(e, rawGUID(entries[i]))
		binary.LittleEndian.PutUint32(e[16:], uint32(len(head)+len(body)))
		binary.LittleEndian.PutUint32(e[20:], uint32(len(entries[i+1])))
		body = append(body, entries[i+1]...)
	}
	return append(head, body...)
}

// rawGUID is the inverse of printed, written on its own.
func rawGUID(s string) []byte {
	out, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil {
		panic(err)
	}
	return out
}
