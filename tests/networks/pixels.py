"""Networks from images to images: segmentation, super-resolution, style transfer."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.fixture import Fixture, image, noise

# U-Net (arXiv:1505.04597), the up-path by transposed convolutions or bilinear, padded to fit


class DoubleConv(nn.Module):
    def __init__(self, in_channels, out_channels, mid_channels=None):
        super().__init__()
        if not mid_channels:
            mid_channels = out_channels
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(mid_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(in_channels, out_channels))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels, bilinear=True):
        super().__init__()
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.conv = DoubleConv(in_channels, out_channels, in_channels // 2)
        else:
            self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
            self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        diffY = x2.size()[2] - x1.size()[2]
        diffX = x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [diffX // 2, diffX - diffX // 2, diffY // 2, diffY - diffY // 2])
        x = torch.cat([x2, x1], dim=1)
        return self.conv(x)


class UNet(nn.Module):
    def __init__(self, n_channels=3, n_classes=2, bilinear=False, base=8):
        super().__init__()
        factor = 2 if bilinear else 1
        self.inc = DoubleConv(n_channels, base)
        self.down1 = Down(base, base * 2)
        self.down2 = Down(base * 2, base * 4 // factor)
        self.up1 = Up(base * 4, base * 2 // factor, bilinear)
        self.up2 = Up(base * 2, base, bilinear)
        self.outc = nn.Conv2d(base, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.up1(x3, x2)
        x = self.up2(x, x1)
        return self.outc(x)


# Feature pyramid (arXiv:1612.03144): resized to the size of the other map; heads shared by the levels


class FPN(nn.Module):
    def __init__(self):
        super().__init__()
        self.c2 = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.c3 = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.c4 = nn.Sequential(nn.Conv2d(16, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU())
        self.toplayer = nn.Conv2d(24, 12, kernel_size=1)
        self.latlayer1 = nn.Conv2d(16, 12, kernel_size=1)
        self.latlayer2 = nn.Conv2d(8, 12, kernel_size=1)
        self.smooth = nn.Conv2d(12, 12, kernel_size=3, padding=1)
        self.head = nn.Conv2d(12, 5, kernel_size=3, padding=1)

    def _upsample_add(self, x, y):
        _, _, H, W = y.size()
        return F.interpolate(x, size=(H, W), mode="nearest") + y

    def forward(self, x):
        c2 = self.c2(x)
        c3 = self.c3(c2)
        c4 = self.c4(c3)
        p4 = self.toplayer(c4)
        p3 = self._upsample_add(p4, self.latlayer1(c3))
        p2 = self._upsample_add(p3, self.latlayer2(c2))
        outputs = [self.head(F.relu(self.smooth(p))).flatten(2) for p in (p2, p3, p4)]
        return torch.cat(outputs, dim=-1).permute(0, 2, 1)


# HRNet (arXiv:1908.07919): parallel resolutions that exchange by resize and add


class HRNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.transition1 = nn.ModuleList([None, nn.Conv2d(8, 16, 3, 2, 1)])
        self.branches = nn.ModuleList([self._branch(8), self._branch(16)])
        self.fuse_layers = nn.ModuleList(
            [
                nn.ModuleList([None, nn.Sequential(nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8))]),
                nn.ModuleList([nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)), None]),
            ]
        )
        self.relu = nn.ReLU()
        self.last_layer = nn.Conv2d(24, 3, 1)

    def _branch(self, c):
        return nn.Sequential(nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU(inplace=True))

    def forward(self, x):
        x = self.stem(x)
        x_list = []
        for i in range(2):
            if self.transition1[i] is not None:
                x_list.append(self.transition1[i](x))
            else:
                x_list.append(x)
        for i in range(2):
            x_list[i] = self.branches[i](x_list[i])
        x_fuse = []
        for i in range(len(self.fuse_layers)):
            y = x_list[0] if i == 0 else self.fuse_layers[i][0](x_list[0])
            for j in range(1, 2):
                if i == j:
                    y = y + x_list[j]
                elif j > i:
                    height_output = x_list[i].shape[-2]
                    width_output = x_list[i].shape[-1]
                    fused = self.fuse_layers[i][j](x_list[j])
                    y = y + F.interpolate(
                        fused, size=[height_output, width_output], mode="bilinear", align_corners=False
                    )
                else:
                    y = y + self.fuse_layers[i][j](x_list[j])
            x_fuse.append(self.relu(y))
        x0_h, x0_w = x_fuse[0].size(2), x_fuse[0].size(3)
        x1 = F.interpolate(x_fuse[1], size=(x0_h, x0_w), mode="bilinear", align_corners=True)
        return self.last_layer(torch.cat([x_fuse[0], x1], 1))


# DeepLab (arXiv:1706.05587): dilated branches and one over the whole image, resized back


class ASPP(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.convs = nn.ModuleList([nn.Conv2d(12, 8, 1, bias=False)])
        self.convs.extend(nn.Conv2d(12, 8, 3, padding=rate, dilation=rate, bias=False) for rate in (2, 4))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 8, 1, bias=False), nn.ReLU())
        self.project = nn.Sequential(nn.Conv2d(32, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
        self.classifier = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        input_shape = x.shape[-2:]
        features = self.backbone(x)
        _res = [conv(features) for conv in self.convs]
        pooled = self.pool(features)
        _res.append(F.interpolate(pooled, size=features.shape[-2:], mode="bilinear", align_corners=False))
        x = self.classifier(self.project(torch.cat(_res, dim=1)))
        return F.interpolate(x, size=input_shape, mode="bilinear", align_corners=False)


# Super-resolution: ESPCN (arXiv:1609.05158) and EDSR (arXiv:1707.02921)


class ESPCN(nn.Module):
    def __init__(self, scale_factor=3, num_channels=1):
        super().__init__()
        self.first_part = nn.Sequential(
            nn.Conv2d(num_channels, 32, kernel_size=5, padding=5 // 2),
            nn.Tanh(),
            nn.Conv2d(32, 16, kernel_size=3, padding=3 // 2),
            nn.Tanh(),
        )
        self.last_part = nn.Sequential(
            nn.Conv2d(16, num_channels * (scale_factor**2), kernel_size=3, padding=3 // 2),
            nn.PixelShuffle(scale_factor),
        )

    def forward(self, x):
        x = self.first_part(x)
        x = self.last_part(x)
        return x


class MeanShift(nn.Conv2d):
    def __init__(self, rgb_range, sign=-1):
        super().__init__(3, 3, kernel_size=1)
        std = torch.Tensor([1.0, 1.0, 1.0])
        self.weight.data = torch.eye(3).view(3, 3, 1, 1) / std.view(3, 1, 1, 1)
        self.bias.data = sign * rgb_range * torch.Tensor([0.4488, 0.4371, 0.4040]) / std
        for p in self.parameters():
            p.requires_grad = False


class EDSRBlock(nn.Module):
    def __init__(self, n_feats, res_scale=0.1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_feats, n_feats, 3, padding=1), nn.ReLU(True), nn.Conv2d(n_feats, n_feats, 3, padding=1)
        )
        self.res_scale = res_scale

    def forward(self, x):
        res = self.body(x).mul(self.res_scale)
        res += x
        return res


class EDSR(nn.Module):
    def __init__(self, n=12):
        super().__init__()
        self.sub_mean = MeanShift(1.0)
        self.add_mean = MeanShift(1.0, sign=1)
        self.head = nn.Sequential(nn.Conv2d(3, n, 3, padding=1))
        self.body = nn.Sequential(EDSRBlock(n), EDSRBlock(n), nn.Conv2d(n, n, 3, padding=1))
        self.tail = nn.Sequential(
            nn.Sequential(nn.Conv2d(n, 4 * n, 3, padding=1), nn.PixelShuffle(2)), nn.Conv2d(n, 3, 3, padding=1)
        )

    def forward(self, x):
        x = self.sub_mean(x)
        x = self.head(x)
        res = self.body(x)
        res += x
        x = self.tail(res)
        return self.add_mean(x)


# Style transfer (arXiv:1603.08155): reflection padding, InstanceNorm, upsampling by nearest neighbours


class ConvLayer(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride, upsample=None):
        super().__init__()
        self.upsample = upsample
        self.reflection_pad = nn.ReflectionPad2d(kernel_size // 2)
        self.conv2d = nn.Conv2d(in_channels, out_channels, kernel_size, stride)

    def forward(self, x):
        x_in = x
        if self.upsample:
            x_in = F.interpolate(x_in, mode="nearest", scale_factor=self.upsample)
        out = self.reflection_pad(x_in)
        return self.conv2d(out)


class StyleNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = ConvLayer(3, 8, 5, 1)
        self.in1 = nn.InstanceNorm2d(8, affine=True)
        self.conv2 = ConvLayer(8, 16, 3, 2)
        self.in2 = nn.InstanceNorm2d(16, affine=True)
        self.res = ConvLayer(16, 16, 3, 1)
        self.in3 = nn.InstanceNorm2d(16)
        self.deconv1 = ConvLayer(16, 8, 3, 1, upsample=2)
        self.deconv2 = ConvLayer(8, 3, 5, 1)
        self.relu = nn.ReLU()

    def forward(self, X):
        y = self.relu(self.in1(self.conv1(X)))
        y = self.relu(self.in2(self.conv2(y)))
        y = self.in3(self.res(y)) + y
        y = self.deconv2(self.relu(self.deconv1(y)))
        return y


class DCGANGenerator(nn.Module):
    """A generator (arXiv:1511.06434): from a vector up by transposed convolutions."""

    def __init__(self, nz=16, ngf=8):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 2, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, ngf, 3, 2, 1, output_padding=1, bias=False),
            nn.BatchNorm2d(ngf),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf, 3, 4, 2, 1, groups=1, bias=False),
            nn.Tanh(),
        )

    def forward(self, input):
        return self.main(input[:, :, None, None])


class Autoencoder(nn.Module):
    """Down to a vector by flatten, up again by unflatten; 3-D convolutions over (channels, depth, height, width)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv3d(1, 6, 3, 2, 1), nn.BatchNorm3d(6), nn.ELU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(48, 12)
        )
        self.decoder = nn.Sequential(
            nn.Linear(12, 48),
            nn.Unflatten(1, (6, 2, 2, 2)),
            nn.Softplus(),
            nn.Upsample(scale_factor=4),
            nn.Conv3d(6, 1, 1),
        )

    def forward(self, x):
        return torch.sigmoid(self.decoder(self.encoder(x)))


pixels = partial(Fixture, family="pixels")
NETWORKS = {
    "unet": pixels(UNet, image(3, 18, 22)),
    "unet_bilinear": pixels(lambda: UNet(bilinear=True), image(3, 16)),
    "fpn": pixels(FPN, image(3, 32)),
    "hrnet_like": pixels(HRNet, image(3, 32)),
    "deeplab_like": pixels(ASPP, image(3, 32)),
    "espcn": pixels(ESPCN, image(1, 12)),
    "edsr": pixels(EDSR, image(3, 12)),
    "style_transfer": pixels(StyleNet, image(3, 16)),
    "dcgan_generator": pixels(DCGANGenerator, noise(16, batch=2)),
    "autoencoder_3d": pixels(Autoencoder, noise(1, 8, 8, 8, batch=2)),
}
