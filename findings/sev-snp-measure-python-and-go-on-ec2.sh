#!/usr/bin/env bash
# sev-snp-measure 0.0.13 (PyPI) and its "direct port" sev-snp-measure-go at fd0cc4c95d62 (April 2026), two
# tools of one organization for the launch digest of SEV-SNP guests: on the same firmware image, hash of the
# firmware, features and number of processors they agree for the hypervisors QEMU and GCE, and never
# for EC2. EC2 changed the initial value of one register in 2026; only the Python tool followed.
# Who compares EC2's reports with a digest that the Go module computed refuses each new guest, and who
# computes it with the Python package refuses each guest that has run since before.
set -euo pipefail
dir=$(mktemp -d); trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check sev-snp-measure==0.0.13
cd "$dir"; export GOFLAGS=-mod=mod
go mod init example.com/observe 2>/dev/null
go get github.com/virtee/sev-snp-measure-go@v0.0.0-20260408174629-fd0cc4c95d62 2>/dev/null
cat >main.go <<'GO'
package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"strconv"

	"github.com/virtee/sev-snp-measure-go/guest"
	"github.com/virtee/sev-snp-measure-go/ovmf"
	"github.com/virtee/sev-snp-measure-go/vmmtypes"
)

// arguments: image, hash of the firmware in hexadecimal, hypervisor, processors
func main() {
	image, err := ovmf.New(os.Args[1])
	check(err)
	hash, err := hex.DecodeString(os.Args[2])
	check(err)
	processors, err := strconv.Atoi(os.Args[4])
	check(err)
	vmm := map[string]vmmtypes.VMMType{"QEMU": vmmtypes.QEMU, "ec2": vmmtypes.EC2, "gce": vmmtypes.GCE}[os.Args[3]]
	digest, err := guest.LaunchDigestFromOVMF(image, 1, processors, hash, vmm, "EPYC-Milan")
	check(err)
	fmt.Printf("%x\n", digest)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
GO
go mod tidy 2>/dev/null
go build -o observe .
image=$(go list -m -f '{{.Dir}}' github.com/virtee/sev-snp-measure-go)/guest/testdata/ovmf_img_1.bin
firmware=$(printf 'firmware' | sha384sum | cut -d' ' -f1) # any digest serves: it is the first link of both chains
same=yes
for vmm in QEMU gce ec2; do
  for processors in 1 2 64; do
    python=$(venv/bin/sev-snp-measure --mode snp --vmm-type "$vmm" --vcpus "$processors" --vcpu-type EPYC-Milan \
      --guest-features 0x1 --ovmf "$image" --snp-ovmf-hash "$firmware")
    go=$(./observe "$image" "$firmware" "$vmm" "$processors")
    [ "$python" = "$go" ] && verdict=equal || verdict=different
    echo "$vmm, $processors processors: $verdict (Python ${python:0:12}…, Go ${go:0:12}…)"
    want=equal; [ "$vmm" != ec2 ] || want=different
    [ "$verdict" = "$want" ] || same=no
  done
done
if [ $same = yes ]; then echo "as stated"; else echo "CHANGED: this is not what the finding states"; exit 1; fi
