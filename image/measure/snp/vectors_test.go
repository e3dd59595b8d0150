package snp

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/image/measure/firmware/firmwaretest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

// TestPublicVectors: the digests that virtee's sev-snp-measure and sev have in their tests for two builds of
// OVMF (tests/test_guest.py of version 0.0.13), of whose images only the last page is published.
func TestPublicVectors(t *testing.T) {
	sev := evidencetest.Read(t, "measure", "ovmf_AmdSev_suffix.bin")
	plain := evidencetest.Read(t, "measure", "ovmf_OvmfX64_suffix.bin")
	null, quiet := HashKernel(nil, nil, ""), HashKernel(nil, nil, "console=ttyS0 loglevel=7")
	epyc := Signature(23, 1, 2)
	for want, c := range map[string]struct {
		image []byte
		m     Machine
		k     *KernelHashes
	}{
		"329c8ce0972ae52343b64d34a434a86f245dfd74f5ed7aae15d22efc78fb9683632b9b50e4e1d7fa41179ef98a7ef198": {sev, Machine{QEMU, 1, epyc, 0x21}, &null},
		"ddc5224521617a536ee7ce9dd6224d1b58a8d4fda1c741f3ac99fc4bfa04ba6e9fc98646d4a07a9079397fa3852819b5": {sev, Machine{QEMU, 1, epyc, 0x1}, &null},
		"803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977": {sev, Machine{QEMU, 1, epyc, 0x21}, &quiet},
		"6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa": {sev, Machine{QEMU, 1, epyc, 0x1}, &quiet},
		"0ce9ccc06bab55eebe8abc234f3df6514883977a68a591b71052498ab52b2f1aa415db338033946ef93aa8278c0d67fb": {sev, Machine{EC2, 1, 0, 0x21}, &null},
		"0883bd0eeb716e65b7b977a321c278d1e51b33b5c655fab985443bbcc65c086b9c15e8a0bd8811050dec7e24964e5056": {sev, Machine{EC2, 1, 0, 0x1}, &null},
		"5da7106cf14cf46b1725ebab123eb9e53bd46a1e9f400cd0c08e7827b04b688ea8b4e403c8404efed4397ea5d5d0722e": {sev, Machine{GCE, 1, 0, 0x1}, &null},
		"5c5debf100fc339f90276e761ee1f1658d08922c3b20e2a2e6c7a6c3370b2452a15a00eae11886a93d6fd1e7ab81e29d": {sev, Machine{GCE, 4, 0, 0x1}, &null},
		"e1e1ca029dd7973ab9513295be68198472dcd4fc834bd9af9b63f6e8a1674dbf281a9278a4a2ebe0eed9f22adbcd0e2b": {sev, Machine{QEMU, 1, epyc, 0x21}, nil},
		"19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d": {sev, Machine{QEMU, 1, epyc, 0x1}, nil},
		"4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942": {sev, Machine{QEMU, 4, epyc, 0x21}, &null},
		"5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5": {sev, Machine{QEMU, 4, epyc, 0x1}, &null},
		"28797ae0afaba4005a81e629acebfb59e6687949d6be44007cd5506823b0dd66f146aaae26ff291eed7b493d8a64c385": {plain, Machine{QEMU, 1, epyc, 0x21}, nil},
		"da0296de8193586a5512078dcd719eccecbd87e2b825ad4148c44f665dc87df21e5b49e21523a9ad993afdb6a30b4005": {plain, Machine{QEMU, 1, epyc, 0x1}, nil},
	} {
		if got := digest(t, c.image, c.m, c.k); got != want {
			t.Errorf("%+v: got %s, want %s", c.m, got, want)
		}
	}
	_, err := Digest(parse(t, plain), Machine{QEMU, 1, epyc, 0x21}, &null)
	refusaltest.Want(t, "kernel hashes without a section", err, ReasonKernelHashes)
}

// TestVectorsOfTheGoModule: the digests in the tests of sev-snp-measure-go, whose images of 4 MiB come with
// the module. Their images lack the code: the digests begin with that of the whole one. Its EC2 is that of guests
// before EC2 changed.
func TestVectorsOfTheGoModule(t *testing.T) {
	longtest.Run(t, "it fetches a module of 8 MiB")
	out, err := exec.Command("go", "mod", "download", "-json", "github.com/virtee/sev-snp-measure-go@v0.0.0-20260408174629-fd0cc4c95d62").Output()
	var at struct{ Dir string }
	if err != nil || json.Unmarshal(out, &at) != nil {
		t.Skipf("NOT COMPARED: sev-snp-measure-go cannot be fetched: %v", err)
	}
	for want, c := range map[string]struct {
		name, begin string
		vmm         VMM
	}{
		"4c6e33087d08fa770259484dddbef367086a15c3e2cf10038dc97229d39c942671c2e22b300178f8de594a3f2fa59303": {"1", "a58211791a556a630a4319dc9e2ea96cc0e9784dd9f20a4fadf81b26c98d163fcdcb6703884bbbb80d7b1de45b3d84d0", EC2Before2026},
		"c2c84b9364fc9f0f54b04534768c860c6e0e386ad98b96e8b98eca46ac8971d05c531ba48373f054c880cfd1f4a0a84e": {"2", "2027a27bb9f7acfd280e4c7bd68a73973b94bf0756e5b282e004b9395f597b8d0eb4defa7d8f6549375aa4d2b146f0f3", EC2Before2026},
		"92dd082c6f938452733ef95413d5b023f4a30b249ef5e65c96f090f84c96419004636f5289aa7de3e7948625c64fa67c": {"1", "a58211791a556a630a4319dc9e2ea96cc0e9784dd9f20a4fadf81b26c98d163fcdcb6703884bbbb80d7b1de45b3d84d0", GCE},
		"d0a87fc891933399c54853b455aef5dd348db04465cf726d891b2f5b3f95cd85f42d47236acde9cb29acc3b154d05ef8": {"2", "2027a27bb9f7acfd280e4c7bd68a73973b94bf0756e5b282e004b9395f597b8d0eb4defa7d8f6549375aa4d2b146f0f3", GCE},
	} {
		raw, err := os.ReadFile(filepath.Join(at.Dir, "guest", "testdata", "ovmf_img_"+c.name+".bin"))
		if err != nil {
			t.Fatal(err)
		}
		image := parse(t, raw)
		begin, err := hex.DecodeString(c.begin)
		sections, err2 := image.SEV()
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		run := chain{[DigestBytes]byte(begin)}
		run.sections(c.vmm, sections, nil)
		if err := run.processors(image, Machine{c.vmm, 2, 0, 1}); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(run.digest[:]); got != want {
			t.Errorf("image %s, %s: got %s, want %s", c.name, c.vmm, got, want)
		}
	}
}

// TestDigestsBesideSEVSNPMeasure: every model that it knows, every hypervisor, several numbers of
// processors and sets of features, with and without kernel hashes, on images of our own.
func TestDigestsBesideSEVSNPMeasure(t *testing.T) {
	peer, dir := oracletest.StartSNPMeasure(t), t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	raw := firmwaretest.AmdSev().Make()
	image, kernel, initrd := parse(t, raw), []byte("a kernel"), []byte("an initial RAM disk")
	r := oracletest.SNPMeasureRequest{Firmware: write("ovmf", raw)}
	paths := [2]string{write("kernel", kernel), write("initrd", initrd)}
	compared := 0
	compare := func(m Machine, model string, k *KernelHashes) {
		r.VMM, r.Model, r.VCPUs, r.Features = string(m.VMM), model, m.VCPUs, m.Features
		want := peer.Ask(t, r)
		got, err := Digest(image, m, k)
		if err != nil || want.Err != "" || hex.EncodeToString(got[:]) != want.Digest {
			t.Errorf("%+v, %s: got %x, %v, want %s%s", m, model, got, err, want.Digest, want.Err)
		}
		compared++
	}
	for _, model := range peer.Ask(t, oracletest.SNPMeasureRequest{Names: true}).Models {
		signature, err := Model(model)
		if err != nil {
			t.Errorf("%s: %v", model, err)
			continue
		}
		for _, cpus := range []int{1, 2, 3, 8, 64, 255} {
			for _, features := range []uint64{0x1, 0x5, 0x21, 0x3f} {
				compare(Machine{QEMU, cpus, signature, features}, model, nil)
			}
		}
	}
	for _, line := range []string{"", " ", "quiet root=/dev/vda", "quiet\n"} {
		for _, disk := range []int{0, 1} {
			r.Kernel, r.Initrd, r.Cmdline = paths[0], []string{"", paths[1]}[disk], line
			k := HashKernel(kernel, [][]byte{nil, initrd}[disk], line)
			for _, vmm := range []VMM{QEMU, EC2, GCE} {
				m := Machine{VMM: vmm, VCPUs: 3, Features: 1}
				if vmm == QEMU {
					m.Signature = Signature(26, 0, 0)
				}
				compare(m, map[VMM]string{QEMU: "EPYC-Turin"}[vmm], &k)
			}
		}
	}
	r.Kernel, r.Initrd, r.Cmdline = "", "", ""
	for _, vmm := range []VMM{EC2, GCE} {
		for _, cpus := range []int{1, 2, 96} {
			compare(Machine{vmm, cpus, 0, 0x21}, "", nil)
		}
	}
	if compared < 300 {
		t.Errorf("only %d launches were compared", compared)
	}
}
